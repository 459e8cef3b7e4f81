"""A nanny's errands: handed to its child, and how they ended there, or with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted_dist.aliases import TaskId, Value
from twisted_dist.core.task import KILLED
from twisted_dist.execution import child
from twisted_dist.services.lending import Lending
from twisted_dist.services.worker_errands import Ended, as_ended

Send = Callable[[list[Any]], None]


class ChildErrands:
    """What children are to do beside their tasks; each errand is given to one of them, once."""

    def __init__(self) -> None:
        self.done: Callable[[TaskId, Ended], None] = lambda errand, ended: None
        #: while no child is there
        self._held: dict[TaskId, bytes] = {}
        self._given: set[TaskId] = set()
        self._send: Send | None = None

    def __len__(self) -> int:
        return len(self._given)

    def run(self, errand: TaskId, blob: bytes) -> None:
        """Have the child make a call; the next one, where there is none."""
        if self._send is None:
            self._held[errand] = blob
        else:
            self._given.add(errand)
            self._send([child.ERRAND, errand, blob])

    def stop(self, ids: Iterable[TaskId]) -> None:
        """End errands, politely: their process is others' too."""
        for each in ids:
            self._held.pop(each, None)
        given = [each for each in ids if each in self._given]
        if given and self._send is not None:
            self._send([child.STOP_ERRANDS, given])

    def close(self) -> None:
        """Nothing: they end with the child."""

    def begin(self, send: Send) -> None:
        """A child has started."""
        self._send = send
        held, self._held = self._held, {}
        for errand, blob in held.items():
            self.run(errand, blob)

    def finished(
        self, lending: Lending, errand: TaskId, value: Any, nbytes: int, error: list[Any] | None
    ) -> None:
        """The child says how one has ended."""
        self._given.discard(errand)
        values: list[Value] = [value]
        descriptors, lost = lending.open_results([errand], values)
        if descriptors and self._send is not None:
            self._send([child.TAKEN, descriptors])
        if lost:
            self.done(errand, Ended(KILLED, text="its result is not where its process has put it"))
        else:
            self.done(errand, as_ended(values[0], nbytes, error))

    def ended(self, how: str) -> bool:
        """The child has ended, and with it all that it was given; whether there was any."""
        self._send = None
        given, self._given = self._given, set()
        for each in sorted(given):
            self.done(each, Ended(KILLED, text=how))
        return bool(given)
