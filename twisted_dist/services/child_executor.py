"""Runs tasks in a supervised child process: what makes a worker a nanny."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import Any, Final

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.aliases import Digest, TaskId
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution import child
from twisted_dist.execution.current import Pass
from twisted_dist.execution.scratch import sweep
from twisted_dist.execution.status import Running
from twisted_dist.services.child_errands import ChildErrands
from twisted_dist.services.child_options import ChildOptions
from twisted_dist.services.child_process import ChildProcess, Ending
from twisted_dist.services.child_uploads import ChildUploads
from twisted_dist.services.executor import GetPass, Values, no_pass
from twisted_dist.services.feeding import Feed, Pair
from twisted_dist.services.lending import Lending, runs_of
from twisted_dist.services.memory import machine_memory
from twisted_dist.services.restarts import Restarts
from twisted_dist.services.stops import Stops

#: seconds that a task which is to stop may take to, until its process is ended
TASK_PATIENCE_S: Final = 2.0
#: seconds between two looks at a child's memory
MEASURE_S: Final = 0.2
#: looks after which a child lets go of memory that it keeps for later values: 5 s
TIDY_LOOKS: Final = 25
#: of the memory limit, what a child may keep for values to be written, and for those read
KEPT_SHARE: Final = 1 / 16
_MIB: Final = 2**20


class ChildExecutor:
    """Keeps one child process alive and feeds it.

    While no child is there, tasks wait here. When one dies, the one that has ended it is told
    as killed, with how; what else was in it is told as returned, and where nobody knows which
    it was, each runs alone when it comes again (`services.feeding`).
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        nthreads: int,
        options: ChildOptions,
        chance: random.Random | None = None,
    ) -> None:
        self.tell: Callable[[object], None] = lambda fact: None
        self.get_pass: GetPass = no_pass
        self.gave_up: Callable[[str], None] = lambda why: None
        self.output: Callable[[Iterable[tuple[TaskId, int, str]]], None] = lambda pieces: None
        self.restarts = 0
        self._reactor = reactor
        self._nthreads = nthreads
        self._options = options
        self._restarts = Restarts(chance or random.Random())
        self._functions: dict[Digest, bytes] = {}
        self._uploads = ChildUploads()
        self.errands = ChildErrands()
        self._child: ChildProcess | None = None
        self._lending = Lending(0)
        #: told how much memory the child uses, as often as that is looked at
        self.measured: Callable[[int], None] = lambda used: None
        self._feed = Feed(options.recycle_after)
        self._stops = Stops()
        #: the child has said that it can run tasks; how many it has ended
        self._is_ready = False
        self._ended = self._looks = 0
        self._calls: deque[Any] = deque()
        self._restart: Any = None
        self._first: defer.Deferred[None] | None = None
        self._stopped: defer.Deferred[None] | None = None
        #: the child is being ended so that another starts: that is no accident
        self._renewing = False
        #: the child was for so many tasks, and is being replaced
        self._is_recycled = False

    @property
    def rss(self) -> int:
        """Bytes of memory that the child used when it was last looked at."""
        return self._child.rss if self._child is not None else 0

    def look(self) -> None:
        """See how much memory the child uses now."""
        if self._child is not None:
            self._child.measure()

    def start(self) -> defer.Deferred[None]:
        """Start a child; fires when it is ready, fails when none could be started."""
        sweep()
        self._first = defer.Deferred()
        self._launch()
        return self._first

    def _launch(self) -> None:
        self._restart = None
        self._renewing = self._is_recycled = False
        self._ended = 0
        self._is_ready = False
        self._child = ChildProcess(self._reactor, self._nthreads, self._options.preload, self)
        self._lending = Lending(self._child.pid or 0)
        self._later(MEASURE_S, self._measure)
        for digest, blob in self._functions.items():
            self._child.send([child.FUNCTION, digest, blob])
        self._uploads.begin(self._child.send)
        self.errands.begin(self._child.send)
        self._send(self._feed.started())

    def _later(self, delay: float, function: Callable[..., None], *args: Any) -> None:
        """Call *function* later, while there is this child."""
        while self._calls and not self._calls[0].active():
            self._calls.popleft()
        self._calls.append(self._reactor.callLater(delay, function, *args))

    def add_function(self, digest: Digest, blob: bytes) -> None:
        """Keep a pickled function for this child and its successors."""
        self._functions[digest] = blob
        if self._child is not None:
            self._child.send([child.FUNCTION, digest, blob])

    def add_upload(self, name: str, digest: bytes, blob: bytes) -> defer.Deferred[str]:
        """Keep an upload for this child and its successors."""
        send = self._child.send if self._child is not None else None
        return self._uploads.add(name, digest, blob, send)

    def forget_uploads(self) -> None:
        """Let go of all uploads."""
        self._uploads.forget(self._child.send if self._child is not None else None)

    def run(self, tasks: Sequence[m.WorkerTask], values: Values) -> None:
        """Send tasks with their inputs to the child, as soon as they may go there."""
        if self._feed.is_open and self._child is not None:
            self._feed.note_given(len(tasks))
            self._child.send(runs_of(tasks, values, self._lending))
        else:
            needed = ((task, {each: values[each] for each in task.deps}) for task in tasks)
            self._send(self._feed.offer(needed))

    def _send(self, pairs: Sequence[Pair]) -> None:
        """Send what was held back."""
        if pairs and self._child is not None:
            values: dict[TaskId, Any] = {}
            for _, needed in pairs:
                values |= needed
            self._child.send(runs_of([task for task, _ in pairs], values, self._lending))

    def drop(self, ids: Sequence[TaskId]) -> None:
        """Take back what has not begun."""
        dropped = self._feed.take_back(ids)
        if dropped:
            self.tell(m.ExecutionReturned(dropped))
        if self._child is not None and ids:
            self._child.send([child.DROP, list(ids)])

    def stop_tasks(self, ids: Sequence[TaskId], attempts: Sequence[int]) -> None:
        """End tasks: politely, and after `TASK_PATIENCE_S` with their process."""
        dropped = self._feed.take_back(ids)
        if dropped:
            self.tell(m.ExecutionReturned(dropped))
        if self._child is not None:
            self._stops.ask(ids, attempts)
            self._child.send([child.STOP_TASKS, list(ids), list(attempts)])
            self._later(TASK_PATIENCE_S, self._stop_by_force, set(zip(ids, attempts)))

    def _stop_by_force(self, which: set[tuple[TaskId, int]]) -> None:
        if self._child is None:
            return
        still = [each for each in self._child.running() if each[:2] in which]
        if still:
            why = f"a task did not end within {TASK_PATIENCE_S:g} s of being told to"
            self._child.kill(why, still)
        for task_id, attempt in which.difference(each[:2] for each in still):
            self._stops.forget(task_id, attempt)

    def restart(self) -> defer.Deferred[None]:
        """Kill the child and start another; fires when that is ready."""
        self._first = defer.Deferred()
        self._feed.child_died()
        self._renewing = True
        if self._restart is not None:
            self._restart.cancel()
        if self._child is not None:
            self._child.kill()
        else:
            self._launch()
        return self._first

    def stop(self) -> defer.Deferred[None]:
        """End the child: politely, then by force; fires when it is gone."""
        if self._stopped is None:
            self._stopped = defer.Deferred()
            if self._restart is not None:
                self._restart.cancel()
                self._restart = None
            if self._child is None:
                self._stopped.callback(None)
            else:
                self._child.stop()
        return self._stopped

    # -- limits

    def _measure(self) -> None:
        """See how much memory the child uses, and end it where that is too much."""
        if self._child is None:
            return
        self._later(MEASURE_S, self._measure)
        used, limit = self._child.measure(), self._options.memory_limit
        self.measured(used)
        self._looks += 1
        if not self._looks % TIDY_LOOKS and self._lending.is_on:
            self._child.send([child.TIDY])
        if limit and used > limit:
            used_mib, limit_mib = used / _MIB, limit / _MIB
            self._child.kill(
                f"it used {used_mib:,.0f} MiB, and --memory-limit is {limit_mib:,.0f} MiB"
            )

    def allow(self, cap: int | None) -> None:
        """Have *cap* tasks at most in the child, None for any number: memory is short.

        What is there already goes on.
        """
        self._send(self._feed.allow(cap))

    def renew_idle(self) -> None:
        """Have another child take the place of one that has nothing to run."""
        if self._feed.is_idle:
            self._recycle()

    def _recycle(self) -> None:
        if self._child is not None and not self._is_recycled and not self.errands:
            self._is_recycled = True
            self._child.stop()

    def _note_left(self, ids: Sequence[TaskId]) -> None:
        """Tasks are no longer in the child, and that was told."""
        self._lending.take_back(ids)
        self._send(self._feed.ended(ids))
        if self._feed.is_used_up:
            self._recycle()

    # -- from the child

    def child_ready(self, probe: list[Any] | None) -> None:
        """The child can run tasks."""
        self._is_ready = True
        ours = self._lending.offer(probe)
        if ours is not None and self._child is not None:
            limit = self._options.memory_limit or machine_memory()
            self._child.send([child.SHARE, ours, int(limit * KEPT_SHARE)])
        if self._first is not None:
            first, self._first = self._first, None
            first.callback(None)

    def received(self, message: list[Any]) -> None:
        """One frame of the child's."""
        kind = message[0]
        if kind == child.FINISHED:
            self._finished(*message[1:])
        elif kind == child.ERRED:
            for fact in self._stops.sort(*message[1:]):
                self.tell(fact)
            self._ended += len(message[1])
            self._note_left(message[1])
        elif kind == child.DROPPED:
            self.tell(m.ExecutionReturned(message[1]))
            self._note_left(message[1])
        elif kind == child.WAITING:
            self.tell(m.ExecutionWaits(*message[1:]))
            if message[3]:
                self._send(self._feed.waits(message[1]))
        elif kind == child.PASS_WANTED:
            self._get_pass(*message[1:])
        elif kind == child.STOPPING:
            self._stops.note(*message[1:])
        elif kind == child.OUTPUT:
            if self._child is not None:
                for _, stream, text in message[1]:
                    self._child.pass_on(stream, text.encode())  # to where this process writes
            self.raw_output(message[1])
        elif kind == child.SHARES:
            self._lending.is_on = True
        elif kind == child.UPLOADED:
            self._uploads.confirmed(*message[1:])
        elif kind == child.ERRAND_DONE:
            self.errands.finished(self._lending, *message[1:])
            self._note_left(())  # one that is to be replaced waits for its errands too

    def _finished(self, *columns: list[Any]) -> None:
        ids, attempts, values = columns[:3]
        self._ended += len(ids)
        if list in map(type, values):
            descriptors, lost = self._lending.open_results(ids, values)
            if self._child is not None:
                self._child.send([child.TAKEN, descriptors])
            if lost:
                self._lost(lost, dict(zip(ids, attempts)))
                kept = [each not in lost for each in ids]
                columns = tuple(list(compress(each, kept)) for each in columns)
        self.tell(m.ExecutionFinished(*columns))
        self._note_left(columns[0])

    def _lost(self, ids: list[TaskId], attempts: dict[TaskId, int]) -> None:
        """Results are not where the child has put them: it is gone, or a task closed them."""
        if self._child is not None and self._child.is_alive():
            which = [Running(each, attempts[each], 0) for each in ids]
            self._child.kill("a task has closed what its process shares with the nanny", which)

    def raw_output(self, pieces: Iterable[Sequence[Any]]) -> None:
        """Pieces of output, of tasks or of nobody."""
        self.output([(each[0], each[1], each[2]) for each in pieces])

    def _get_pass(self, request: int, task_id: TaskId, attempt: int) -> None:
        """Give the child a pass for a task of its, or say why not."""
        asking = self._child

        def answer(given: Pass) -> None:
            if self._child is asking and asking is not None:
                asking.send([child.PASS, request, *given, ""])

        def refuse(failure: Failure) -> None:
            if self._child is asking and asking is not None:
                asking.send([child.PASS, request, "", "", b"", failure.getErrorMessage()])

        self.get_pass(task_id, attempt).addCallbacks(answer, refuse)

    def child_ended(self, ending: Ending) -> None:
        """The process is gone and reaped."""
        self._child = None
        self._uploads.ended()
        had_errands = self.errands.ended(ending.how)
        for each in self._calls:
            if each.active():
                each.cancel()
        self._calls.clear()
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        if self._renewing:  # everybody has forgotten what was in it
            self._stops.clear()
            self._launch()
            return
        facts = list(
            self._facts(ending, had_errands)
        )  # held ones are told as returned, as what had not begun
        if self._is_recycled:
            self._launch()
        else:
            self._accident(ending)
        for fact in facts:
            self.tell(fact)

    def _facts(self, ending: Ending, had_errands: bool) -> Iterator[object]:
        """What its end means for the tasks that were in it, unless an errand has ended it."""
        culprits = ending.culprits
        if not culprits and len(ending.running) == 1 and not had_errands:
            culprits = ending.running
        self._feed.child_died(() if culprits else (each.task_id for each in ending.running))
        stopped: list[Running] = []
        killed: list[TaskId] = []
        for each in culprits:
            if self._stops.is_asked(each.task_id, each.attempt):
                stopped.append(each)
            else:
                killed.append(each.task_id)
        if stopped:
            yield self._stops.ended(stopped, ending.how)
        self._stops.clear()
        yield m.ExecutorDied(killed, ending.how)

    def _accident(self, ending: Ending) -> None:
        self.log.warn("{how}", how=ending.how)
        self.restarts += 1
        delay = self._restarts.next(
            was_ready=self._is_ready,
            was_useful=bool(self._ended or ending.running),
            lived_s=ending.lived_s,
        )
        if delay is not None:
            self._restart = self._reactor.callLater(delay, self._launch)
            return
        count = self._restarts.stillborn
        why = f"{count} processes in a row did not start; the last: {ending.how}"
        if self._first is not None:
            first, self._first = self._first, None
            first.errback(RuntimeError(why))
        self.gave_up(why)
