"""Values, calls and exceptions as bytes. Used only where user code runs, and by clients.

A *value* is one pickle; or, when the object holds large buffers (arrays), a list of the
pickle and those buffers, so that they are never copied into a pickle; or, when it takes more than
`INLINE_BYTES` and this system can, a `Segment` of them, which other processes of this
host read where it is.
"""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Sequence
from typing import Any, Final

from twisted_dist.aliases import Value
from twisted_dist.core.worker_side.machine import INLINE_BYTES
from twisted_dist.errors import RemoteError
from twisted_dist.segments.files import has_room
from twisted_dist.segments.mapping import COPIED_BYTES, MAPPINGS
from twisted_dist.segments.pool import POOL
from twisted_dist.segments.segment import Segment, open_place

#: a buffer from this size on stays out of the pickle
OUT_OF_BAND_BYTES: Final = 64 * 1024
#: characters of a traceback that are kept
MAX_TRACEBACK: Final = 64 * 1024
#: bytes of a pickled exception: a frame must hold it, and the scheduler keeps it
MAX_EXCEPTION: Final = 2**20
#: bytes of a result: a frame of the data protocol and of the child's channel must hold it
MAX_VALUE: Final = 2**31 - 2**16

_inputs: Final = threading.local()


def resolve_future(position: int) -> Any:
    """What a pickled Future becomes where its task runs: the result it stands for."""
    return _inputs.values[position]


def dumps(obj: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """Pickle by the standard library where it can, by cloudpickle where that fails.

    What refers to ``__main__`` goes to cloudpickle, which takes it along by value: the
    other side has another ``__main__``.
    """

    def keep(buffer: pickle.PickleBuffer) -> bool:
        assert buffers is not None
        if buffer.raw().nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(buffer)
        return False

    callback = None if buffers is None else keep
    try:
        blob = pickle.dumps(obj, protocol=5, buffer_callback=callback)
        if b"__main__" not in blob:
            return blob
    except Exception:  # anything: objects answer pickle with errors of their own
        pass
    import cloudpickle

    if buffers is not None:
        buffers.clear()
    blob = cloudpickle.dumps(obj, protocol=5, buffer_callback=callback)
    assert isinstance(blob, bytes)
    return blob


def dump_value(obj: Any, share: bool = False) -> Value:
    """Serialise a result. Raises whatever pickling raises.

    Args:
        obj: any.
        share: whether a large one is to become a `Segment`; where descriptors are few, the less
            large are not.
    """
    buffers: list[pickle.PickleBuffer] = []
    blob = dumps(obj, buffers)
    raw = [each.raw() for each in buffers]
    nbytes = len(blob) + sum(each.nbytes for each in raw)
    if share and nbytes > INLINE_BYTES and (nbytes > COPIED_BYTES or has_room()):
        return POOL.write([blob, *raw])
    return [blob, *map(bytes, raw)] if raw else blob


class Placed:
    """A value that another process has: where, as `Segment.place` says it, and in which."""

    __slots__ = ("pid", "place")

    def __init__(self, pid: int, place: Sequence[Any]) -> None:
        self.pid = pid
        self.place = place


def value_nbytes(value: Value) -> int:
    """Bytes that a value takes."""
    if isinstance(value, bytes):
        return len(value)
    return value.nbytes if isinstance(value, Segment) else sum(map(len, value))


def load_value(value: Value | Placed) -> Any:
    """The object; its large buffers are read-only views of *value*.

    Raises:
        OSError: it is placed where nothing can be read.
    """
    if isinstance(value, bytes):
        return pickle.loads(value)
    if isinstance(value, Placed):
        parts: Sequence[Any] = MAPPINGS.load(value.pid, value.place)
    elif isinstance(value, Segment):
        parts = MAPPINGS.load(os.getpid(), value.place())
    else:
        parts = value
    return pickle.loads(parts[0], buffers=parts[1:])


def opened(pid: int, place: Sequence[Any]) -> Value:
    """What another process has placed: kept open, or copied where too many are open already.

    Raises:
        OSError: as of `open_place`.
    """
    value = open_place(pid, place)
    return value if has_room() else in_band(value)


def in_band(value: Value) -> bytes | list[bytes]:
    """A value as bytes, for who cannot read it where it is. Raises OSError."""
    return value.buffers() if isinstance(value, Segment) else value


def load_call(blob: bytes, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``(args, kwargs)``, with every Future in them replaced by its result."""
    _inputs.values = inputs
    try:
        args, kwargs = pickle.loads(blob)
    finally:
        _inputs.values = None
    return args, kwargs


def dump_exception(problem: BaseException) -> tuple[bytes, str]:
    """An exception as a pickle that is known to load again, and its traceback as text.

    An exception that cannot be pickled, or not be loaded (a frequent trap: an
    ``__init__`` with other arguments), or is larger than `MAX_EXCEPTION`, becomes a
    `RemoteError` with its words. Never raises.
    """
    frames = problem.__traceback__.tb_next if problem.__traceback__ else None
    kind = f"{type(problem).__module__}.{type(problem).__qualname__}"
    try:
        text = "".join(traceback.format_exception(type(problem), problem, frames))
    except Exception as worse:  # its own __str__ or the like raised
        text = f"{kind}, which cannot be shown: {type(worse).__name__}"
    text = _shortened(text)
    try:
        blob = dumps(problem)
        if len(blob) > MAX_EXCEPTION or not isinstance(pickle.loads(blob), BaseException):
            raise TypeError("too large, or did not load as an exception")
    except Exception:
        try:
            words = f"{kind}: {problem}"
        except Exception as worse:
            words = f"{kind}, which cannot be shown: {type(worse).__name__}"
        blob = pickle.dumps(RemoteError(_shortened(words)))
    return blob, text


def _shortened(text: str) -> str:
    # halves of characters, as in odd names of files, are nothing that the wire can carry
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= MAX_TRACEBACK:
        return text
    return text[: MAX_TRACEBACK // 2] + "\n...\n" + text[-MAX_TRACEBACK // 2 :]
