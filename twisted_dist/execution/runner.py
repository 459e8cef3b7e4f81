"""Runs one task: its function, its arguments, its outcome."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from twisted_dist.aliases import Digest, TaskId, Value
from twisted_dist.execution.deferreds import fired, is_deferred
from twisted_dist.execution.payloads import (
    MAX_VALUE,
    Placed,
    dump_exception,
    dump_value,
    load_call,
    load_value,
    value_nbytes,
)


class TaskSpec:
    """What is needed to run a task; *inputs* are the values that its call refers to."""

    __slots__ = ("attempt", "call", "digest", "ended", "inputs", "stopping", "task_id")

    def __init__(
        self,
        task_id: TaskId,
        attempt: int,
        digest: Digest,
        call: bytes,
        inputs: Sequence[Value | Placed],
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.digest = digest
        self.call = call
        self.inputs = inputs
        #: its thread was told to end it
        self.stopping = False
        #: its code has run
        self.ended = False


class Outcome:
    """How a task ended: a value, or an error (pickled exception and traceback)."""

    __slots__ = ("attempt", "awaited", "duration_us", "error", "nbytes", "task_id", "value")

    def __init__(self, spec: TaskSpec) -> None:
        self.task_id = spec.task_id
        self.attempt = spec.attempt
        self.value: Value = b""
        self.nbytes = 0
        #: for which it used its thread
        self.duration_us = 0
        #: the coroutine or Deferred whose result it will be
        self.awaited: Any = None
        self.error: tuple[bytes, str] | None = None


class TaskRunner:
    """Holds the functions of a process and runs tasks with them, from any thread."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        #: whether large results become segments
        self.share = False
        self._blobs: dict[Digest, bytes] = {}
        self._functions: dict[Digest, Callable[..., Any]] = {}

    def add_function(self, digest: Digest, blob: bytes) -> None:
        """Keep a pickled function; it is loaded when a task first needs it."""
        self._blobs[digest] = blob

    def _function(self, digest: Digest) -> Callable[..., Any]:
        functions = self._functions  # not another's, should they be forgotten meanwhile
        function = functions.get(digest)
        if function is None:
            function = functions[digest] = pickle.loads(self._blobs[digest])
        return function

    def forget_loaded(self) -> None:
        """Load functions anew: modules that they refer to were replaced."""
        self._functions = {}

    def run(self, spec: TaskSpec) -> Outcome:
        """Run a task. Never raises: whatever goes wrong is the task's error.

        Where its function returns a coroutine or a Deferred, it has not ended: that is the
        outcome's ``awaited``.
        """
        outcome = Outcome(spec)
        started = self._clock()
        try:
            function = self._function(spec.digest)
            values = [load_value(value) for value in spec.inputs]
            args, kwargs = load_call(spec.call, values)
            result = function(*args, **kwargs)
            if inspect.iscoroutine(result) or is_deferred(result):
                outcome.awaited = result
            else:
                self._finish(outcome, result)
        except BaseException as problem:
            outcome.error = dump_exception(problem)
        outcome.duration_us = int((self._clock() - started) * 1e6)
        return outcome

    def _finish(self, outcome: Outcome, result: Any) -> None:
        outcome.value = dump_value(result, self.share)
        outcome.nbytes = value_nbytes(outcome.value)
        if outcome.nbytes > MAX_VALUE and not self.share:
            size, outcome.value = outcome.nbytes, b""
            raise ValueError(f"the result takes {size} bytes, more than {MAX_VALUE}")

    async def complete(self, outcome: Outcome) -> None:
        """Wait for what a task's function has returned. Never raises, as `run`."""
        awaited = outcome.awaited
        try:
            self._finish(outcome, await (fired(awaited) if is_deferred(awaited) else awaited))
        except BaseException as problem:
            outcome.error = dump_exception(problem)
        outcome.awaited = None

    def give_up(self, outcome: Outcome) -> None:
        """Let what `complete` never began end as cancelled."""
        awaited, outcome.awaited = outcome.awaited, None
        if awaited is not None:
            (awaited.cancel if is_deferred(awaited) else awaited.close)()
            outcome.error = dump_exception(asyncio.CancelledError())
