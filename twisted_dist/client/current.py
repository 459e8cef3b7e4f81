"""`get_client`: the client to use where none was given: a task's own, or the last one made."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from twisted_dist.errors import TwistedDistError
from twisted_dist.execution.current import running_task

_lock = threading.Lock()
#: open clients of this process, the last one made at the end
_clients: list[weakref.ref[Any]] = []
#: the client of all tasks that run in this process, once one wanted it
_of_tasks: list[Any] = []


def note_client(client: Any) -> None:
    """A client of a user's was made."""
    with _lock:
        _clients.append(weakref.ref(client, _clients.remove))


def get_client() -> Any:
    """The client to submit with.

    In a task: one that submits on behalf of whoever submitted the task; there is one for all
    tasks of a worker. While a task waits for a result, another task runs in its place, so
    tasks may submit tasks and wait for them to any depth. Elsewhere: the last `Client` or
    `AsyncClient` that was made and is not closed.

    Raises:
        TwistedDistError: there is none.
        RefusedError: this task is not to be run any more, so it may not submit either.
    """
    task = running_task()
    if task is not None:
        return _client_of_tasks(task)
    with _lock:
        for each in reversed(_clients):
            client = each()
            if client is not None and client.is_open:
                return client
    raise TwistedDistError("there is no client: make one first,  Client('HOST:PORT')")


def _client_of_tasks(task: Any) -> Any:
    with _lock:
        if _of_tasks and _of_tasks[0].is_open:
            return _of_tasks[0]
    from twisted_dist.client.client import Client

    given = task.ask_pass(task)  # not under the lock: it takes a while
    client = Client.for_task(given, f"task {task.task_id:x}")
    with _lock:
        if _of_tasks and _of_tasks[0].is_open:
            other = _of_tasks[0]
        else:
            _of_tasks[:] = [client]
            return client
    client.close()
    return other
