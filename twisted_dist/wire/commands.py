"""AMP commands: how every connection begins, and all of control.

`Hello` comes first on every connection. `RegisterWorker`, `RegisterClient`, `RegisterTask`,
`Resume`, `OpenData`, `OpenRelay` and `JoinRelay` switch the connection to another protocol;
everything else stays AMP.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgpack
from twisted.protocols import amp

from twisted_dist.errors import ProtocolError, RefusedError

#: versions of docs/protocol.md that this package speaks, lowest and highest
OLDEST_VERSION: Final = 3
NEWEST_VERSION: Final = 3

#: bytes that one `Chunked` argument may have
MAX_CHUNKED_BYTES: Final = 8 * 2**20

_CHUNK: Final = 60_000


class Chunked(amp.Argument):
    """A msgpack value of up to 8 MiB, spread over as many AMP values as it takes.

    AMP ends a value at 65,535 bytes; the state of a large network is longer.
    """

    def toBox(
        self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: Any
    ) -> None:
        """Write *name*, *name*.1, *name*.2, … (AMP's interface)."""
        packed = msgpack.packb(objects[amp._wireNameToPythonIdentifier(name)], use_bin_type=True)
        for index in range(0, len(packed) or 1, _CHUNK):
            part = name if not index else name + b".%d" % (index // _CHUNK)
            strings[part] = packed[index : index + _CHUNK]

    def fromBox(
        self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: Any
    ) -> None:
        """Read what `toBox` wrote (AMP's interface)."""
        parts = [strings.pop(name)]
        size = len(parts[0])
        while (part := name + b".%d" % len(parts)) in strings:
            parts.append(strings.pop(part))
            size += len(parts[-1])
            if size > MAX_CHUNKED_BYTES:
                raise ProtocolError(f"argument {name!r} is over {MAX_CHUNKED_BYTES} bytes")
        value = msgpack.unpackb(b"".join(parts), raw=False, strict_map_key=False)
        objects[amp._wireNameToPythonIdentifier(name)] = value


_ERRORS: dict[type[Exception], bytes] = {RefusedError: b"REFUSED"}


#: what a member says that was welcome before: in which life of the scheduler (empty for never),
#: in which generation that was, and how many workers there were
_EARLIER: Final = [
    (b"life", amp.String()),
    (b"generation", amp.Integer()),
    (b"peers", amp.Integer()),
]


class Hello(amp.Command):
    """First on every connection: which versions, and who is calling.

    Answer: the highest version both speak, and what the daemon is.
    """

    arguments: ClassVar = [
        (b"oldest", amp.Integer()),
        (b"newest", amp.Integer()),
        (b"role", amp.Unicode()),
        (b"software", amp.Unicode()),
    ]
    response: ClassVar = [
        (b"version", amp.Integer()),
        (b"service", amp.Unicode()),
        (b"software", amp.Unicode()),
    ]
    errors: ClassVar = _ERRORS


class RegisterWorker(amp.ProtocolSwitchCommand):
    """A worker joins; from the answer on, the connection is its task stream."""

    arguments: ClassVar = [
        (b"address", amp.Unicode()),
        (b"name", amp.Unicode()),
        (b"nthreads", amp.Integer()),
        (b"resources", Chunked()),
        *_EARLIER,
    ]
    errors: ClassVar = _ERRORS


class RegisterClient(amp.ProtocolSwitchCommand):
    """A client joins; from the answer on, the connection is its task stream.

    *index* is what it was called in an earlier life; 0 for never.
    """

    arguments: ClassVar = [(b"name", amp.Unicode()), (b"index", amp.Integer()), *_EARLIER]
    errors: ClassVar = _ERRORS


class RegisterTask(amp.ProtocolSwitchCommand):
    """A task joins as a client, with the ticket that its worker asked for; as `RegisterClient`.

    One that was welcome before has the ticket that its welcome brought.
    """

    arguments: ClassVar = [
        (b"name", amp.Unicode()),
        (b"ticket", amp.String()),
        (b"index", amp.Integer()),
        *_EARLIER,
    ]
    errors: ClassVar = _ERRORS


class Resume(amp.ProtocolSwitchCommand):
    """A task stream goes on, whose connection was lost: *received* bytes had come by then.

    Answered within the stream, with how many had come there. Refused where the session is over.
    """

    arguments: ClassVar = [(b"token", amp.String()), (b"received", amp.Integer())]
    errors: ClassVar = _ERRORS


class OpenData(amp.ProtocolSwitchCommand):
    """Bulk data from or to a worker; from the answer on, `wire.data`'s protocol."""

    arguments: ClassVar = [(b"name", amp.Unicode())]
    errors: ClassVar = _ERRORS


class OpenRelay(amp.ProtocolSwitchCommand):
    """`OpenData` to the worker at *address*, by the scheduler, which joins two connections.

    Answered when the worker has come to it, or with why it did not.
    """

    arguments: ClassVar = [(b"name", amp.Unicode()), (b"address", amp.Unicode())]
    errors: ClassVar = _ERRORS


class JoinRelay(amp.ProtocolSwitchCommand):
    """A worker comes for a relay, with the ticket that it was sent; it serves `wire.data`."""

    arguments: ClassVar = [(b"ticket", amp.String())]
    errors: ClassVar = _ERRORS


class Identity(amp.Command):
    """What this daemon is, and what it sees."""

    arguments: ClassVar = []
    response: ClassVar = [(b"result", Chunked())]
    errors: ClassVar = _ERRORS


class Ping(amp.Command):
    """Whether the daemon's reactor turns."""

    arguments: ClassVar = []
    response: ClassVar = [(b"result", Chunked())]
    errors: ClassVar = _ERRORS


class Query(amp.Command):
    """A view of the scheduler's: ``who_has``, ``has_what``, ``nthreads``, ``info``, and others."""

    arguments: ClassVar = [(b"what", amp.Unicode()), (b"arguments", Chunked())]
    response: ClassVar = [(b"result", Chunked())]
    errors: ClassVar = _ERRORS


class Explain(amp.Command):
    """Why a task is not running, or where its time went: of a scheduler's task, by its key."""

    arguments: ClassVar = [(b"key", amp.Unicode())]
    response: ClassVar = [(b"result", Chunked())]
    errors: ClassVar = _ERRORS


class Terminate(amp.Command):
    """End this daemon cleanly; answered before it ends."""

    arguments: ClassVar = []
    response: ClassVar = [(b"result", Chunked())]
    errors: ClassVar = _ERRORS
