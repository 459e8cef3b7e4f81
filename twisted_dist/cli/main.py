"""Console scripts: the daemons in the foreground, with plain lines."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def _run(module_name: str) -> int:
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        globalLogBeginner,
        textFileLogObserver,
    )
    from twisted.python import usage

    module: Any = importlib.import_module(module_name)
    options = module.Options()
    try:
        options.parseOptions(sys.argv[1:])
    except usage.UsageError as problem:
        print(
            f"{module_name.rpartition('.')[2]}: {problem}".replace(
                "scheduler:", "dscheduler:"
            ).replace("worker: ", "dworker: "),
            file=sys.stderr,
        )
        return 2
    observer = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    daemon = module.makeService(options)
    from twisted.internet import reactor

    daemon.startService()
    reactor.run()  # type: ignore[attr-defined]
    return int(daemon.exit_status)


def dscheduler() -> int:
    """Entry point of ``dscheduler``."""
    return _run("twisted_dist.cli.scheduler")


def dworker() -> int:
    """Entry point of ``dworker``."""
    return _run("twisted_dist.cli.worker")
