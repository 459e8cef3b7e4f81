"""What errands are held to, at both ends and between them."""

from __future__ import annotations

from typing import Final

#: how an errand has ended, beside the kinds of failure (`core.task`): its result is in the
#: message, or at the worker
VALUE: Final = "value"
HELD: Final = "held"
#: what a worker that knows errands has in its heartbeats: how many are under way
METRIC: Final = "errands"
#: that may be under way at a time on one worker, and in a whole network
MOST_ERRANDS: Final = 100
MOST_UNDER_WAY: Final = 100_000
#: bytes of a pickled call, and of a pickled exception: a frame must hold either
MAX_CALL_BYTES: Final = 8 * 2**20
MAX_BLOB_BYTES: Final = 2**20
#: bytes of calls that are under way on one worker; each counts for a hundredth of it at least
MOST_BYTES: Final = 64 * 2**20
#: characters of a traceback, or of another reason
MOST_TOLD: Final = 64 * 1024 + 100
