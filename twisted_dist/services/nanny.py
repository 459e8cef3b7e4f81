"""`Nanny`: a worker whose tasks run in a child process that it watches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any, Final

from twisted_dist.core.worker_side import messages as m
from twisted_dist.core.worker_side.machine import INLINE_BYTES
from twisted_dist.errors import NoRoomError
from twisted_dist.execution.payloads import dump_exception
from twisted_dist.services.child_executor import ChildExecutor
from twisted_dist.services.child_options import ChildOptions
from twisted_dist.services.executor import Executor
from twisted_dist.services.memory import memory_limit as bytes_of
from twisted_dist.services.memory import own_bytes
from twisted_dist.services.pressure import Pressure
from twisted_dist.services.store import Store
from twisted_dist.services.worker import Worker

#: seconds between two words about the same
WORD_S: Final = 60.0
#: by which the largest result is thought to be less with each that is smaller
FADING: Final = 0.9
_MIB: Final = 2**20


class Nanny(Worker):
    """A `Worker` whose tasks run in a supervised child process.

    This process never runs or unpickles anything of the user's. A task that ends its
    process costs that process, which is started again, and nothing that is held here.

    Args:
        scheduler: and all further arguments, as of `Worker`.
        memory_limit: of the child and of the values held: bytes, or as text ``"4GiB"``,
            ``"0.5"`` (of this machine's memory), ``"auto"`` (its memory, by this worker's
            share of its cores), ``"0"`` (none). From 60% of it on, values move to
            *local_directory*; from 80% on, no further tasks begin; a child that uses more than
            all of it is ended, and what it was running is told why.
        recycle_after: tasks after which another child takes the place of the first, when that
            has nothing to run; 0 for never. For code that leaks.
        preload: modules that a child imports before it runs tasks.
        local_directory: where values go that memory has no room for; by default where this
            system has temporary files. What is there has no name, and ends with this process.

    Raises:
        UsageProblem: *memory_limit* cannot be read.
    """

    kind = "nanny"

    def __init__(
        self,
        scheduler: str,
        *args: Any,
        memory_limit: int | str = "auto",
        recycle_after: int = 0,
        preload: Sequence[str] = (),
        local_directory: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._memory_limit = memory_limit
        self._recycle_after = recycle_after
        self._preload = tuple(preload)
        self._local_directory = local_directory
        self._limit = self._own = 0
        self._is_paused = False
        self._is_capped = False
        #: bytes of the largest of the last few results
        self._usual = 0.0
        self._next_word = 0.0
        super().__init__(scheduler, *args, **kwargs)

    def _make_store(self) -> Store:
        return Store(self.reactor, self._local_directory)

    def _make_executor(self) -> Executor:
        self._limit = bytes_of(self._memory_limit, self.nthreads)
        options = ChildOptions(self._limit, self._recycle_after, self._preload)
        self._children = ChildExecutor(self.reactor, self.nthreads, options)
        self._children.measured = lambda used: self._note_held()
        return self._children

    def metrics(self) -> dict[str, float]:
        """Adds whether tasks have to wait for memory."""
        return {**super().metrics(), "paused": float(self._is_paused)}

    # -- memory

    def _pressure(self) -> Pressure:
        if not self._own:
            self._own = own_bytes()  # of before it holds anything
        return Pressure(self._limit, self._own, self._children.rss, self._store.memory)

    def _note_held(self) -> None:
        """Values came, or the child was measured: see that both have room."""
        if not self._limit:
            return
        pressure = self._pressure()
        if pressure.is_tight:  # what is known of the child may be of a while ago
            self._children.look()
            pressure = self._pressure()
        self._store.keep_below(pressure.room_for_values)
        paused = pressure.is_paused(self._is_paused)
        room = pressure.room_for_tasks(self._usual, self.nthreads)
        if not paused and not self._is_paused and room is None and not self._is_capped:
            return
        self._is_capped = paused or room is not None
        if paused is not self._is_paused:
            self._is_paused = paused
            if paused and self.reactor.seconds() >= self._next_word:
                self._next_word = self.reactor.seconds() + WORD_S
                self.log.warn("{n} has little memory left: tasks wait", n=self.name or self.address)
        if paused and pressure.is_bloated:
            self._children.renew_idle()
        # where nothing can be moved to disk, one at a time is better than none for ever; but
        # into a process that has leaked nothing more goes, and so it comes to an end
        cap = 0 if self._store.is_moving or pressure.is_bloated else 1
        self._children.allow(cap if paused else room)

    def _told(self, fact: object) -> None:
        if isinstance(fact, m.ExecutionFinished):
            self._usual = max(FADING * self._usual, max(fact.nbytes, default=0))
            if self._store.is_stuck:
                fact = self._refuse(fact)
        super()._told(fact)

    def _refuse(self, fact: m.ExecutionFinished) -> m.ExecutionFinished:
        """Let large results for which there is no room anywhere fail; the others are left."""
        fits = []
        coming = 0
        for nbytes in fact.nbytes:
            fits.append(nbytes <= INLINE_BYTES or not self._pressure().refuses(coming + nbytes))
            coming += nbytes if fits[-1] else 0
        bad = [not each for each in fits]
        errors = [dump_exception(self._no_room(each)) for each in compress(fact.nbytes, bad)]
        if errors:
            blobs, texts = map(list, zip(*errors))
            ids, attempts = list(compress(fact.ids, bad)), list(compress(fact.attempts, bad))
            super()._told(m.ExecutionErred(ids, attempts, blobs, texts))
        columns: Any = (fact.ids, fact.attempts, fact.values, fact.nbytes, fact.durations_us)
        return m.ExecutionFinished(*(list(compress(each, fits)) for each in columns))

    def _no_room(self, nbytes: int) -> NoRoomError:
        limit = self._limit / _MIB
        return NoRoomError(
            f"no room for a result of {nbytes / _MIB:,.0f} MiB on {self.name or self.address}: its "
            f"memory limit is {limit:,.0f} MiB, and {self._store.directory} takes nothing more"
        )
