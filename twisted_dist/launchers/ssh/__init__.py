"""SSH as people have it: hosts entered with their configuration, keys and known hosts.

`interface` says what a connection is; `settings` is what is known of a host before it is
entered. Two clients give connections: one on `twisted.conch`, and the system's ``ssh``.
"""
