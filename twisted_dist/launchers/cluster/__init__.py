"""A cluster over SSH: which daemons run on which hosts, and what keeps them there.

`plan` says what is meant, `station` is one host's life, `fleet` all of them together.
"""
