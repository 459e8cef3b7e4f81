"""`QUIET`: a logger for what conch tells of each connection, channel and request.

Fifty hosts would be some thousand lines; only what went wrong is passed on.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)

QUIET: Final = Logger(
    namespace="twisted_dist.launchers.ssh",
    observer=FilteringLogObserver(
        globalLogPublisher, [LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)]
    ),
)
