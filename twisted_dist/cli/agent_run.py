"""The life of an agent, in the background of its host."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
from collections.abc import Callable
from time import time
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger, eventAsText, globalLogBeginner

from twisted_dist.access.life import life
from twisted_dist.cli.log_files import LogFiles
from twisted_dist.errors import AccessError
from twisted_dist.launchers.cluster.agent import Agent
from twisted_dist.launchers.cluster.agent_files import LOGS_KEPT, MOST_LOG_BYTES, AgentFiles
from twisted_dist.launchers.cluster.here import LocalConnection
from twisted_dist.launchers.cluster.orders import Order, Orders, said_line
from twisted_dist.version import VERSION

#: bytes that are said before the last line, which must find room in the pipe too
MOST_SAID: Final = 32 * 1024
#: seconds between two savings of the state
SAVE_S: Final = 0.5
#: seconds between two looks at whether somebody waits for the report
LEASH_S: Final = 0.5


class Saver:
    """Saves a state soon after it has changed, in a thread: the disk may be slow, or away.

    Args:
        reactor: for time.
        save: what does it, in a thread; what it raises is in the log.
        state: gives the state.
        in_thread: calls a function with an argument in a thread.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        save: Callable[[dict[str, Any]], None],
        state: Callable[[], dict[str, Any]],
        in_thread: Callable[..., Deferred[Any]] = deferToThread,
    ) -> None:
        self._reactor = reactor
        self._save = save
        self._state = state
        self._in_thread = in_thread
        self._timer: Any = None
        self._is_busy = False
        self._is_stale = False
        self._is_over = False

    def changed(self) -> None:
        """It has changed."""
        if self._is_over or self._timer is not None:
            return
        if self._is_busy:
            self._is_stale = True
            return
        self._timer = self._reactor.callLater(SAVE_S, self._begin)

    def _begin(self) -> None:
        self._timer, self._is_busy = None, True
        saving = self._in_thread(self._save, self._state())
        saving.addErrback(lambda f: self.log.error("{why}", why=f.getErrorMessage()))
        saving.addCallback(self._saved)

    def _saved(self, _: object) -> None:
        self._is_busy = False
        if self._is_stale:
            self._is_stale = False
            self.changed()

    def stop(self) -> None:
        """Nothing is saved any more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AgentRun:
    """An agent, from the moment that it is alone.

    Until it has reported, it ends with whoever waits for that: a launcher that is interrupted
    leaves nothing.

    Args:
        reactor: of everything.
        orders: what to keep running.
        files: of the agent.
        pipe: to whoever started it, for as long as daemons come up.
    """

    log = Logger()

    def __init__(self, reactor: Any, orders: Orders, files: AgentFiles, pipe: int) -> None:
        self._reactor = reactor
        self._orders = orders
        self._files = files
        self._pipe: int | None = pipe
        self._room = MOST_SAID
        self._logs = LogFiles(
            files.directory, lambda text: None, most_bytes=MOST_LOG_BYTES, kept=LOGS_KEPT
        )
        self._saver = Saver(reactor, files.save, self._state)
        self._life = life()
        connection = LocalConnection(reactor, self._saver.changed)
        self._connection = connection
        self._agent = Agent(
            reactor,
            random.Random(),
            orders.daemons,
            connection,
            self._tell,
            self._announced,
            self._saver.changed,
            time,
        )
        self._is_ending = self._is_over = False

    def begin(self) -> None:
        """Start all, once the reactor runs."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self._logs.start()
            self._files.save(self._state())  # or nobody finds it again
        except (AccessError, OSError) as problem:
            self._verdict("failed", str(problem))
            self._reactor.stop()
            return
        observer: Any = self._log_event
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        self._agent.settled.addCallback(lambda _: self._settled())
        self._agent.done.addCallback(lambda _: self._over())
        self._agent.start()
        leash = LoopingCall(self._hold)
        leash.clock = self._reactor
        self._agent.settled.addCallback(lambda _: leash.stop())
        leash.start(LEASH_S).addErrback(lambda f: self.log.failure("leash", failure=f))

    def _log_event(self, event: Any) -> None:
        """What happens, with when, for `AgentFiles.last_words`."""
        for each in eventAsText(event, includeSystem=False).splitlines():
            self._logs.line(self._files.own_log.name, each)

    def _hold(self) -> None:
        """End where nobody waits for the report any more."""
        if self._pipe is not None:
            waiting = select.poll()
            waiting.register(self._pipe, 0)
            if waiting.poll(0):
                self.log.info("its launcher has gone before it was up")
                self.end()

    def _state(self) -> dict[str, Any]:
        processes = []
        for pid in self._connection.pids:
            with contextlib.suppress(ProcessLookupError):
                processes.append(life(pid))
        return {
            "id": self._orders.id,
            "cluster": self._orders.cluster,
            "version": VERSION,
            "life": self._life,
            "processes": processes,
            "daemons": [attrs.asdict(each) for each in self._agent.states],
        }

    # -- what its daemons say

    def _tell(self, order: Order, line: str, is_error: bool) -> None:
        self._logs.line(self._files.log_name(order.log_name), line)
        if is_error:
            self._say(label=order.label, line=line, error=True)

    def _announced(self, order: Order, line: str) -> None:
        self._say(label=order.label, line=line, error=False)
        self.log.info("{label}: {line}", label=order.label, line=line)

    def _say(self, **what: object) -> None:
        text = said_line(**what)
        if len(text) <= self._room:
            self._room -= len(text) + 1
            self._write(text)

    def _write(self, text: str) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # whoever waited does not any more
                os.write(self._pipe, text.encode() + b"\n")

    def _verdict(self, state: str, why: str) -> None:
        self._write(said_line(state=state, why=why))
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _whys(self) -> str:
        """Why daemons are not up."""
        return "; ".join(f"{each.label}: {each.why}" for each in self._agent.states if each.why)

    def _settled(self) -> None:
        whys = self._whys()
        if self._agent.is_any_up:
            self._verdict("up", whys)
            return
        self._verdict("failed", whys or "no daemon has come up")
        self.end()

    # -- its end

    def _signalled(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.end)

    def end(self) -> None:
        """End the daemons, and then this."""
        if not self._is_ending:
            self._is_ending = True
            ending = Deferred.fromCoroutine(self._agent.end())
            ending.addErrback(lambda failure: self.log.failure("ending", failure=failure))
            ending.addBoth(lambda _: self._over())

    def _over(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._saver.stop()
            self.log.info("it has ended: {whys}", whys=self._whys() or "it was told to")
            if self._reactor.running:
                self._reactor.stop()

    def close(self) -> None:
        """Once the reactor has stopped, and its threads."""
        self._logs.stop()
        self._files.remove()


def run(orders: Orders, files: AgentFiles, pipe: int) -> int:
    """Be the agent; the exit status."""
    from twisted.internet.main import installReactor

    from twisted_dist.wire.reactor import make_reactor

    installReactor(make_reactor())
    from twisted.internet import reactor

    running: Any = reactor
    agent = AgentRun(running, orders, files, pipe)
    running.callWhenRunning(agent.begin)
    running.run()
    agent.close()
    return 0
