"""`Client.run`: a call on every worker, beside its tasks; and `Client.nbytes`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet import defer

from twisted_dist.client import logs as log_op
from twisted_dist.client.future import Record
from twisted_dist.client.journal import Data
from twisted_dist.client.operations import wait_done
from twisted_dist.client.options import as_names, check_text
from twisted_dist.client.pickling import MAX_CALL_BYTES, function_name, pickled_call
from twisted_dist.client.session import Session
from twisted_dist.client.uploads import UploadMethods
from twisted_dist.errors import ConnectError, UsageProblem
from twisted_dist.execution.errand_rules import HELD, VALUE
from twisted_dist.execution.payloads import load_value

#: what `Client.run` does with what a worker's call has raised
ON_ERROR: Final = ("raise", "return", "ignore")


def check_run(
    function: Any, args: Any, kwargs: Any, timeout: float | None, on_error: str
) -> tuple[str, bytes]:
    """What a call is named, and its pickle. Raises UsageProblem."""
    if not callable(function):
        raise UsageProblem(f"{function!r} is not callable")
    if on_error not in ON_ERROR:
        raise UsageProblem(f"on_error={on_error!r}: it is 'raise', 'return' or 'ignore'")
    if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout > 0):
        raise UsageProblem(f"timeout={timeout!r} is not a number of seconds above 0")
    name = f"run-{function_name(function)}".replace("\n", " ")
    blob = pickled_call((function, *args), kwargs)
    if len(blob) > MAX_CALL_BYTES:
        raise UsageProblem(
            f"{name} takes {len(blob)} bytes with its arguments, more than {MAX_CALL_BYTES}"
        )
    return name, blob


async def _addresses(session: Session, names: list[str]) -> list[str]:
    """Of the workers that are meant, in the order in which they came. Raises UsageProblem."""
    workers = (await session.query("info"))["workers"]
    meant = {
        address: {address, about["name"], address.rpartition(":")[0]}
        for address, about in workers.items()
    }
    missing = [each for each in names if not any(each in known for known in meant.values())]
    if missing:
        raise UsageProblem(f"no worker has the address, host or name {', '.join(missing)}")
    return [address for address, known in meant.items() if not names or known & set(names)]


async def run(
    session: Session, name: str, blob: bytes, names: list[str], timeout: float | None
) -> dict[str, Record]:
    """How a call has ended on each worker; in the reactor's thread."""
    addresses = await _addresses(session, names)
    if not addresses:
        return {}
    count = len(addresses)
    first = session.submitter.take_ids(count, inner=count)
    asked = "\n".join([name, *addresses])
    answers = await session.ask_workers(asked, blob, first, count, timeout)
    records = {}
    away = []
    for place, (address, answer) in enumerate(zip(addresses, answers)):
        kind, nbytes, value, text, holder = answer
        record = records[address] = Record(first + place, name)
        record.nbytes = nbytes
        if kind == VALUE:
            record.value = value
        elif kind == HELD:
            record.origin = Data(record.id, nbytes, is_there=True)
            session.claim(record, holder)
            away.append(record)
        else:
            record.error = kind, value, text
    try:
        await wait_done(session, away)
        await session.fetcher.fetch([each for each in away if each.error is None])
    except ConnectError as problem:  # what came from others is there
        for record in away:
            if record.value is None and record.error is None:
                record.error = "connection", b"", str(problem)
    finally:
        for record in away:
            session.drop(record.id)
    return records


def results(records: dict[str, Record], on_error: str) -> dict[str, Any]:
    """``{address: result}``; raises the first exception where that is wanted."""
    found = {}
    for address, record in records.items():
        if record.value is not None:
            found[address] = load_value(record.value)
            continue
        problem = record.exception()
        assert problem is not None
        if on_error == "raise":
            raise problem
        if on_error == "return":
            found[address] = problem
    return found


class RunMethods(UploadMethods):
    """Calls beside tasks. As `DataMethods`', these block, or give Deferreds."""

    def run(
        self,
        func: Callable[..., Any],
        *args: Any,
        workers: str | Iterable[str] | None = None,
        timeout: float | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> Any:
        """Call ``func(*args, **kwargs)`` once on every worker, at once: ``{address: result}``.

        It is no task: it waits for no thread, as it has one of its own in the process where
        the worker's tasks run, however busy that is; nothing tries it again, and futures cannot
        be arguments. A coroutine or a Deferred that it returns is waited for. What it prints is
        in `logs`, under the name ``run-`` and the function's.

        Args:
            func: the function.
            args: its arguments; 8 MiB at most with the function.
            workers: addresses, hosts or names of workers; by default all that are registered.
            timeout: seconds that it may take; what still runs then is told to stop, by an
                exception in it, and has failed with TimeoutError. By default it may take for
                ever: only a worker that is lost, or a scheduler, ends the waiting.
            on_error: ``raise`` the first exception once all have ended, ``return`` exceptions as
                results, or ``ignore``: leave those workers out.
            kwargs: its keyword arguments.

        Raises:
            UsageProblem: no worker is called that, or something cannot be meant; nothing was sent.
            TaskKilledError: the process where it ran has ended; says how.
            WorkerLostError: the worker was lost meanwhile: it may have been done.
            ConnectionClosedError: the scheduler was lost, or has begun anew meanwhile.
        """
        session = self.session
        name, blob = check_run(func, args, kwargs, timeout, on_error)
        names = as_names(workers)
        if not all(isinstance(each, str) for each in names):
            raise UsageProblem(f"workers={workers!r}: addresses, hosts or names are strings")
        check_text("workers", *names)
        ended = self.run_coroutine(run, session, name, blob, names, timeout)
        # results are loaded here, by a blocking client in its user's thread
        if isinstance(ended, defer.Deferred):
            return ended.addCallback(results, on_error)
        return results(ended, on_error)

    def nbytes(self, keys: Any = None, summary: bool = True) -> Any:
        """Bytes of the results and data that workers hold, each counted once.

        Args:
            keys: futures, or keys, whose bytes are wanted; by default all.
            summary: ``{prefix of keys: bytes}``, as ``{"inc": 28, "data": 1000}``, rather than
                ``{key: bytes}``. A prefix is a key up to what only numbers it.
        """
        names = log_op.as_keys(keys)
        return self.run_coroutine(self.session.query, "nbytes", [names, bool(summary)])
