"""A reactor in a thread, for code that blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future as ConcurrentFuture
from types import TracebackType
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from twisted_dist.wire.reactor import make_reactor


def _new_reactor() -> Any:
    """A reactor of our own: the global one may be taken, and runs only once a process."""
    reactor = make_reactor()
    reactor._registerAsIOThread = False
    return reactor


class ReactorThread:
    """Runs a reactor in a thread of its own; a context manager.

    Attributes:
        reactor: to be given to `Scheduler`, `Worker`, `AsyncClient`, ….
    """

    def __init__(self) -> None:
        self.reactor = _new_reactor()
        started = threading.Event()
        self.reactor.callWhenRunning(started.set)
        self._thread = threading.Thread(
            target=self.reactor.run, args=(False,), name="twisted_dist-reactor", daemon=True
        )
        self._thread.start()
        started.wait()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call *function* in the reactor's thread and block for its result.

        Deferreds and coroutines are waited for; what they raise is raised here.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("ReactorThread.call would wait for its own thread")
        answer: ConcurrentFuture[Any] = ConcurrentFuture()

        def run() -> None:
            def fail(failure: Failure) -> None:
                answer.set_exception(failure.value)

            waiting = defer.maybeDeferred(function, *args, **kwargs)
            waiting.addCallbacks(answer.set_result, fail)

        self.reactor.callFromThread(run)
        return answer.result()

    def stop(self) -> None:
        """Stop the reactor and end the thread. May be called twice."""
        if self._thread.is_alive():
            self.reactor.callFromThread(self.reactor.stop)
            self._thread.join()
        for each in (*self.reactor.getReaders(), *self.reactor.getWriters()):
            each.connectionLost(Failure(ConnectionAbortedError("the reactor has ended")))
        poller = getattr(self.reactor, "_poller", None)
        if poller is not None:
            poller.close()

    def __enter__(self) -> ReactorThread:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
