"""The roles of a network, and what each may do.

A credential has one role. What a role may do is decided by the process that is asked, from
the key that the asker has proven to hold, never from what it says of itself.
"""

from __future__ import annotations

from typing import Final

#: may do everything but be a worker: submit, terminate, look
ADMIN: Final = "admin"
#: may submit work and read results
SUBMIT: Final = "submit"
#: may register as a worker, and fetch data for its tasks
WORKER: Final = "worker"
#: may look: identity, views, health
READ_ONLY: Final = "read-only"

ROLES: Final = (ADMIN, SUBMIT, WORKER, READ_ONLY)

#: ask a daemon what it is and sees
MAY_LOOK: Final = frozenset(ROLES)
#: register as a client
MAY_SUBMIT: Final = frozenset({ADMIN, SUBMIT})
#: let a session go on that was begun with this very credential
MAY_REGISTER: Final = frozenset({ADMIN, SUBMIT, WORKER})
#: register as a worker: by its certificate's role others know that it may give them data
MAY_WORK: Final = frozenset({WORKER})
#: read and write values at a worker
MAY_MOVE_DATA: Final = frozenset({ADMIN, SUBMIT, WORKER})
#: end a daemon
MAY_TERMINATE: Final = frozenset({ADMIN})
