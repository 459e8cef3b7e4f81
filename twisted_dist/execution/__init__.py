"""Running user code: in threads of a process, and that process as a supervised child.

Imports neither Twisted nor anything of the network: a child starts in tens of milliseconds.
"""
