"""`Person`: whose configuration, keys and agent are used."""

from __future__ import annotations

import os
import pwd
import socket

from attrs import frozen


@frozen
class Person:
    """The user of this process, as the system's list of users has them.

    ``ssh`` goes by that list and not by ``$HOME``; so do we, or both would differ.

    Attributes:
        name: the login name.
        home: the home directory.
        uid: the number.
        machine: the name of this machine.
    """

    name: str
    home: str
    uid: int
    machine: str

    @classmethod
    def here(cls) -> Person:
        """Whoever runs this."""
        entry = pwd.getpwuid(os.getuid())
        return cls(entry.pw_name, entry.pw_dir, entry.pw_uid, socket.gethostname())
