"""What may be uploaded: names, kinds and bounds, as clients, scheduler and workers check them.

An upload has a name and bytes. The name says what it is: ``tool.py`` a module, ``lib.zip``
(``.egg``, ``.whl``) an archive to import from, ``tables/`` a directory as a zip archive that is
unpacked, anything else a file that tasks open.
"""

from __future__ import annotations

import keyword
import sys
from typing import Final

from twisted_dist.errors import UsageProblem

MIB: Final = 2**20
#: of one file, or one packed directory: what goes in pieces over streams that have other work
MAX_UPLOAD_BYTES: Final = 64 * MIB
#: of all that a scheduler keeps, and with it each worker
MAX_TOTAL_BYTES: Final = 256 * MIB
#: names that a scheduler keeps
MAX_UPLOADS: Final = 1000
#: of a message: as large as other batches are
PIECE_BYTES: Final = 1 * MIB
#: of an unpacked directory: bytes, and files
MAX_UNPACKED_BYTES: Final = 256 * MIB
MAX_FILES: Final = 10_000
#: of a name in UTF-8, as file systems have it
MAX_NAME_BYTES: Final = 255
DIGEST_BYTES: Final = 32

ARCHIVES: Final = (".zip", ".egg", ".whl")
#: modules that are never to be hidden: a worker's process is made of them
PROTECTED: Final = sys.stdlib_module_names | {
    *("twisted_dist", "twisted", "zope", "msgpack", "cloudpickle", "attr", "attrs", "psutil"),
    "__main__",
}


def digest_of(blob: bytes | bytearray) -> bytes:
    """By which an upload is known to be the same."""
    import hashlib

    return hashlib.sha256(blob).digest()


def is_directory(name: str) -> bool:
    """Whether the upload of this name is a directory, packed."""
    return name.endswith("/")


def check_component(name: str) -> None:
    """Refuse what is not the name of one file. Raises UsageProblem."""
    is_path = name in ("", ".", "..") or any(each in "/\\\0" for each in name)
    if is_path or not name.isprintable():
        raise UsageProblem(f"{name[:80]!r} cannot be the name of an uploaded file")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise UsageProblem(f"{name[:80]!r}… is longer than {MAX_NAME_BYTES} bytes")


def check_name(name: str) -> None:
    """Refuse a name that is a path, or none. Raises UsageProblem."""
    check_component(name.removesuffix("/"))
    if name.endswith(".py"):
        check_module(name.removesuffix(".py"))


def check_module(name: str) -> None:
    """Refuse what no module can be called, or ours and Python's are. Raises UsageProblem."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageProblem(f"{name[:80]!r} cannot be imported by that name: rename it")
    if name in PROTECTED:
        raise UsageProblem(f"an upload called {name!r} would hide a module of Python's: rename it")
