"""Console scripts: the daemons in the foreground, with plain lines."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, cast

from twisted_dist.cli.inherited import name_sockets


def _end_by_interrupt() -> None:
    """Until there is something to stop, Ctrl-C just ends this: without a traceback.

    A KeyboardInterrupt may be lost in what is imported, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin() -> None:
    """What comes before anything of Twisted: log to standard error, and our reactor."""
    from twisted.internet.main import installReactor
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        PredicateResult,
        globalLogBeginner,
        textFileLogObserver,
    )

    from twisted_dist.wire.reactor import make_reactor

    def not_told_yet(event: Any) -> Any:
        """What a daemon has said on standard error itself is not said there again."""
        return PredicateResult.no if event.get("told") else PredicateResult.maybe

    observer = FilteringLogObserver(
        textFileLogObserver(sys.stderr),
        [cast("Any", not_told_yet), LogLevelFilterPredicate(LogLevel.warn)],
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    installReactor(make_reactor())


def _run(module_name: str) -> int:
    _end_by_interrupt()
    name_sockets(os.environ)  # before anything of Twisted
    module: Any = importlib.import_module(module_name)
    options = module.Options()
    options.parseOptions(sys.argv[1:])
    begin()
    daemon = module.makeService(options)
    from twisted.internet import reactor

    running: Any = reactor
    daemon.startService()
    running.run()
    return int(daemon.exit_status)


def dscheduler() -> int:
    """Entry point of ``dscheduler``."""
    return _run("twisted_dist.cli.scheduler")


def dworker() -> int:
    """Entry point of ``dworker``."""
    return _run("twisted_dist.cli.worker")


def dcluster() -> int:
    """Entry point of ``dcluster``."""
    _end_by_interrupt()
    from twisted_dist.cli.cluster_main import main

    return main(sys.argv[1:], begin)


def daccess() -> int:
    """Entry point of ``daccess``."""
    from twisted_dist.cli.access import main

    return main()


def agent() -> int:
    """What ``dcluster --detach`` leaves on a host."""
    from twisted_dist.cli.agent import main

    return main()
