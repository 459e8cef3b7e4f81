"""Values, calls and exceptions as bytes. Used only where user code runs, and by clients.

A *value* is one pickle, or, when the object holds large buffers (arrays), a list of the
pickle and those buffers, so that they are never copied into a pickle.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Mapping
from typing import Any, Final

from twisted_dist.aliases import TaskId, Value
from twisted_dist.errors import RemoteError

#: a buffer from this size on stays out of the pickle
OUT_OF_BAND_BYTES: Final = 64 * 1024
#: of a traceback that is kept
MAX_TRACEBACK: Final = 64 * 1024

_inputs: Final = threading.local()


def resolve_future(task_id: TaskId) -> Any:
    """What a pickled Future becomes where its task runs: the result it stands for."""
    return _inputs.values[task_id]


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


def dump_value(obj: Any) -> Value:
    """Serialise a result. Raises whatever pickling raises."""
    buffers: list[pickle.PickleBuffer] = []
    blob = dumps(obj, buffers)
    if not buffers:
        return blob
    return [blob, *(bytes(each.raw()) for each in buffers)]


def value_nbytes(value: Value) -> int:
    """Bytes that a value takes."""
    return len(value) if isinstance(value, bytes) else sum(map(len, value))


def load_value(value: Value) -> Any:
    """The object; its large buffers are read-only views of *value*."""
    if isinstance(value, bytes):
        return pickle.loads(value)
    return pickle.loads(value[0], buffers=value[1:])


def load_call(blob: bytes, inputs: Mapping[TaskId, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
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
    ``__init__`` with other arguments), becomes a `RemoteError` with its words.
    """
    frames = problem.__traceback__.tb_next if problem.__traceback__ else None
    text = "".join(traceback.format_exception(type(problem), problem, frames))
    if len(text) > MAX_TRACEBACK:
        text = text[: MAX_TRACEBACK // 2] + "\n...\n" + text[-MAX_TRACEBACK // 2 :]
    try:
        blob = dumps(problem)
        if not isinstance(pickle.loads(blob), BaseException):
            raise TypeError("did not load as an exception")
    except Exception:
        words = f"{type(problem).__module__}.{type(problem).__qualname__}: {problem}"
        blob = pickle.dumps(RemoteError(words))
    return blob, text
