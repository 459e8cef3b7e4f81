"""Names for the plain types that travel through every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    from twisted_dist.segments.segment import Segment

#: A task's integer on the wire: ``client index << 40 | number within that client``.
TaskId: TypeAlias = int
#: The user's name of a task, such as ``inc-1a2b-7``.
Key: TypeAlias = str
#: ``host:port`` that other members of the network can dial.
Address: TypeAlias = str
#: A serialised result: a pickle, or a pickle followed by its out-of-band buffers, or both in
#: memory that processes share, or on disk.
Value: TypeAlias = Union[bytes, "list[bytes]", "Segment"]
#: Number of an own connection, unique within one life of a service.
PeerId: TypeAlias = int
#: 16 bytes that name a pickled function by its content.
Digest: TypeAlias = bytes

#: What a worker calls its own memory, of inputs that should be there.
HERE: Address = ""
#: Bits of a task id that number tasks within a client; the rest is the client's index.
CLIENT_SHIFT = 40
#: Attempts of one generation of a scheduler's (docs/protocol.md): more than any task has.
ATTEMPTS_A_GENERATION = 2**16
