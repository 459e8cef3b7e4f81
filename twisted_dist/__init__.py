"""A network of one scheduler and many workers that runs Python functions, on Twisted.

The names here are all that users need; each is loaded when it is first used, so that a
daemon, a worker's child and a script import only what they run.
"""

from __future__ import annotations

import importlib
from typing import Any

from twisted_dist import version

__version__ = version.VERSION

_PLACES = {
    "Access": "access.access",
    "AsyncClient": "client.async_client",
    "AsyncSSHCluster": "launchers.ssh_cluster",
    "Client": "client.client",
    "Event": "client.coordination",
    "Executor": "client.executor",
    "Future": "client.future",
    "Lock": "client.coordination",
    "LocalCluster": "launchers.local",
    "Nanny": "services.nanny",
    "Queue": "client.coordination",
    "ReactorThread": "wire.reactor_thread",
    "SSHCluster": "launchers.ssh_cluster",
    "Scheduler": "services.scheduler",
    "Semaphore": "client.coordination",
    "Variable": "client.coordination",
    "Worker": "services.worker",
    "as_completed": "client.waiting",
    "errors": "errors",
    "get_client": "client.current",
    "rpc": "client.rpc",
    "uploaded": "execution.uploads",
    "wait": "client.waiting",
}

__all__ = ["__version__", *sorted(_PLACES)]  # noqa: PLE0604 - the one list of the names is _PLACES


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{place}")
    return module if name == "errors" else getattr(module, name)
