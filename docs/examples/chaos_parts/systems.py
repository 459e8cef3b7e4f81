"""The systems that can be put to the test: how each is started, and what its client is called."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
#: attempts that a task has while its process is killed again and again: of what it did not do
RETRIES = 100


class TwistedDist:
    """This one."""

    def __init__(self) -> None:
        self.versions = f"twisted_dist {version('twisted-dist')}"
        self.env: dict[str, str] = {}

    def scheduler(self, port: int) -> list[str]:
        """The command that starts a scheduler."""
        return [str(BIN / "dscheduler"), "--host", HOST, "--port", str(port)]

    def worker(self, port: int, name: str, nthreads: int) -> list[str]:
        """The command that starts a worker whose scheduler is at *port*."""
        own = ["--host", HOST, "--name", name, "--nthreads", str(nthreads)]
        return [str(BIN / "dworker"), f"{HOST}:{port}", *own]

    def client(self, port: int) -> Any:
        """A client."""
        from twisted_dist import Client

        return Client(f"{HOST}:{port}", timeout=30)

    def is_usable(self, client: Any) -> bool:
        """Whether there is any use in a client still."""
        from twisted_dist.errors import ConnectionClosedError

        try:
            client.nthreads()
        except ConnectionClosedError:
            return False
        except Exception:
            return True  # it is hard pressed
        return True

    def wait(self, futures: list[Any], timeout_s: float) -> None:
        """Until all have ended somehow; TimeoutError."""
        from twisted_dist import wait

        if wait(futures, timeout=timeout_s).not_done:
            raise TimeoutError

    def workers(self, client: Any) -> dict[str, str]:
        """``{name: address}`` of those that the scheduler knows."""
        known = client.scheduler_info()["workers"]
        return {about["name"]: address for address, about in known.items()}


class Dask:
    """dask.distributed."""

    def __init__(self) -> None:
        self.versions = f"distributed {version('distributed')}, dask {version('dask')}"
        #: by default three lost workers are enough for a task to fail
        self.env = {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(RETRIES),
            "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "spawn",
        }
        os.environ.update(self.env)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)

    def scheduler(self, port: int) -> list[str]:
        """The command that starts a scheduler."""
        return [
            str(BIN / "dask"),
            "scheduler",
            "--host",
            HOST,
            "--port",
            str(port),
            "--no-dashboard",
        ]

    def worker(self, port: int, name: str, nthreads: int) -> list[str]:
        """The command that starts a worker whose scheduler is at *port*."""
        own = ["--host", HOST, "--name", name, "--nthreads", str(nthreads), "--no-dashboard"]
        return [str(BIN / "dask"), "worker", f"tcp://{HOST}:{port}", *own]

    def client(self, port: int) -> Any:
        """A client."""
        from distributed import Client

        return Client(f"tcp://{HOST}:{port}", timeout=30)

    def is_usable(self, client: Any) -> bool:
        """Whether there is any use in a client still."""
        return client.status not in {"closing", "closed"}  # it may come back

    def wait(self, futures: list[Any], timeout_s: float) -> None:
        """Until all have ended somehow; TimeoutError."""
        from distributed import wait

        wait(futures, timeout=timeout_s)

    def workers(self, client: Any) -> dict[str, str]:
        """``{name: address}`` of those that the scheduler knows."""
        known = client.scheduler_info(n_workers=-1)["workers"]
        return {str(about["name"]): address for address, about in known.items()}


SYSTEMS = {"twisted_dist": TwistedDist, "dask": Dask}
