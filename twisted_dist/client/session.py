"""A client's session with the scheduler: records, submission, results.

One implementation below `Client` and `AsyncClient`. User threads pickle and append to the
outbox; the reactor's thread writes, and marks records done. The outbox wakes the reactor
once for whatever has gathered.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, cast

from twisted.internet import defer, task
from twisted.logger import Logger

from twisted_dist.access.find import GivenAccess
from twisted_dist.access.roles import ADMIN, SUBMIT
from twisted_dist.aliases import CLIENT_SHIFT, TaskId
from twisted_dist.client.fetching import Fetcher
from twisted_dist.client.future import CANCELLED, ERROR, FINISHED, LOST, PENDING, Countdown, Record
from twisted_dist.client.pickling import CallPickler, FunctionTable, function_name
from twisted_dist.client.questions import Questions
from twisted_dist.core import task as kinds
from twisted_dist.errors import ConnectError, ConnectionClosedError, InsecureWarning, RefusedError
from twisted_dist.execution.payloads import dump_value, load_value, value_nbytes
from twisted_dist.wire import commands, schema
from twisted_dist.wire.entering import enter
from twisted_dist.wire.frames import TARGET_BYTES
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.pool import DataPool
from twisted_dist.wire.stream import StreamProtocol

#: seconds that released ids may gather before they are told, and how many: a message for
#: each would be a third of a small task's cost
RELEASE_DELAY_S: Final = 0.05
RELEASE_AT_ONCE: Final = 10_000
RETRY_S: Final = 0.1
#: seconds that an answer may take at least, however little of the timeout is left
LEAST_ANSWER_S: Final = 0.05

_FROM_SCHEDULER: Final = (
    schema.WELCOME.number,
    schema.KEYS.number,
    schema.FINISHED.number,
    schema.ERRED.number,
    schema.LOCATED.number,
    schema.ANSWER.number,
)
_STATUS: Final = {kinds.CANCELLED: CANCELLED, kinds.DATA_LOST: LOST, "connection": LOST}


def as_client(access: GivenAccess, insecure: bool) -> Membership:
    """What a client enters with: an admin's credential if it has one, a submitter's else."""
    if insecure:
        warnings.warn(
            "this client uses neither TLS nor a credential: whoever is at that address, or on "
            "the way there, reads and changes what it sends, and runs code here",
            InsecureWarning,
            stacklevel=3,
        )
    return Membership(access, insecure, (ADMIN, SUBMIT))


class Ids(NamedTuple):
    """Task ids, as a message's only field."""

    ids: Sequence[TaskId]


class Session:
    """The state of one client. Methods are thread-safe unless they say otherwise."""

    log = Logger()

    def __init__(self, reactor: Any, address: str, name: str, membership: Membership) -> None:
        self.reactor = reactor
        self.membership = membership
        self.address = address
        self.name = name
        self.records: dict[TaskId, Record] = {}
        self.closed = False
        self._stream: StreamProtocol | None = None
        self._index = 0
        self._next = 0
        self._lock = threading.Lock()
        self._outbox: deque[bytes] = deque()
        self._dropped: deque[TaskId] = deque()
        self._woken = False
        self._functions = FunctionTable(
            lambda digest, name, blob: self._send(schema.FUNCTION.pack(digest, name, blob))
        )
        self._calls = CallPickler()
        self._questions = Questions(reactor, address, self._send)
        self._releasing: Any = None
        self._welcome: defer.Deferred[None] = defer.Deferred()
        self._ended: list[defer.Deferred[None]] = []
        self.data = DataPool(reactor, name, membership)
        self.fetcher = Fetcher(reactor, self.data, self._locate)

    # -- life, in the reactor's thread

    async def connect(self, timeout_s: float) -> None:
        """Dial until the scheduler is there, *timeout_s* seconds at most.

        Raises:
            ConnectError: it is not, in time.
            AccessError: it is, and there is no access for it here, or it is another's.
            RefusedError: it says no.
        """
        deadline = self.reactor.seconds() + timeout_s
        while True:
            left = max(LEAST_ANSWER_S, deadline - self.reactor.seconds())
            try:
                proto = await enter(self.reactor, self.address, "client", self.membership, left)
                break
            except ConnectError:
                if self.reactor.seconds() + RETRY_S >= deadline:
                    raise
                await task.deferLater(self.reactor, RETRY_S)
        stream = StreamProtocol(_FROM_SCHEDULER, self._received, self._lost)
        self._stream = stream
        left = max(LEAST_ANSWER_S, deadline - self.reactor.seconds())
        await proto.switch(commands.RegisterClient, stream, left, name=self.name)
        await self._welcome.addTimeout(left, self.reactor, self._unwelcome)

    async def close(self) -> None:
        """Tell the scheduler, and end everything."""
        if self.closed:
            return
        self.closed = True
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None
        self.data.close()
        if self._stream is not None and self._stream.transport is not None:
            ended: defer.Deferred[None] = defer.Deferred()
            self._ended.append(ended)
            self._stream.end("this client was closed")
            await ended
        self._fail_all("the client was closed")

    def _unwelcome(self, result: Any, timeout_s: float) -> None:
        if self._stream is not None:
            self._stream.end("no welcome")
        raise ConnectError(f"{self.address} took the connection and said nothing")

    def _lost(self, reason: str) -> None:
        self._stream = None
        if not self._welcome.called:
            self._welcome.errback(ConnectError(f"{self.address} went away: {reason}"))
        self._fail_all(f"the connection to the scheduler at {self.address} was lost: {reason}")
        for each in self._ended:
            each.callback(None)
        self._ended.clear()

    def _fail_all(self, text: str) -> None:
        self._questions.fail_all(text)
        for record in list(self.records.values()):
            if record.status is PENDING:
                self._finish(record, LOST, ("connection", b"", text))

    # -- sending

    def _send(self, payload: bytes) -> None:
        if self.closed:
            raise ConnectionClosedError("this client was closed")
        self._outbox.append(payload)
        with self._lock:
            if self._woken:
                return
            self._woken = True
        self.reactor.callFromThread(self._drain)

    def _drain(self, at_least: int = RELEASE_AT_ONCE) -> None:
        """Send the outbox, and releases if *at_least* so many have gathered."""
        with self._lock:
            self._woken = False
        stream, outbox = self._stream, self._outbox
        if stream is None:
            outbox.clear()
            self._fail_all(f"the connection to the scheduler at {self.address} was lost")
            return
        # counted first: whatever needs these was put into the outbox before they were dropped
        dropped = len(self._dropped)
        while outbox:
            stream.send(outbox.popleft())
        if dropped >= at_least:
            self._send_dropped(dropped)
        stream.flush()

    def drop(self, task_id: TaskId) -> None:
        """A future was garbage collected; told to the scheduler a little later."""
        self._dropped.append(task_id)

    def _send_dropped(self, count: int) -> None:
        ids = []
        for _ in range(count):
            task_id = self._dropped.popleft()
            if self.records.pop(task_id, None) is not None:
                ids.append(task_id)
        if ids and self._stream is not None:
            self._stream.send_all(schema.RELEASE.encode(Ids(ids)))

    def _release_tick(self) -> None:
        self._releasing = self.reactor.callLater(RELEASE_DELAY_S, self._release_tick)
        self.tell_releases()

    def tell_releases(self) -> None:
        """Tell the scheduler what was released by now; in the reactor's thread."""
        if self._dropped and self._stream is not None:
            self._drain(at_least=1)

    def cancel(self, ids: Sequence[TaskId]) -> None:
        """Ask that tasks do not run."""
        for payload in schema.CANCEL.encode(Ids(list(ids))):
            self._send(payload)

    # -- submitting

    def collect(self, task_id: TaskId, future: object) -> bool:
        """While a call of this client is pickled: note a future among its arguments."""
        return task_id >> CLIENT_SHIFT == self._index and self._calls.note(task_id, future)

    def submit(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
        key: str | None,
        workers: Sequence[str],
        loose: bool,
        retries: int,
        priority: int,
    ) -> list[Record]:
        """Submit calls of one function, in frames of about a megabyte."""
        digest = self._functions.digest(function)
        name = function_name(function)
        blobs, deps, any_deps, _held = self._calls.pickle(name, calls)
        with self._lock:
            first = (self._index << CLIENT_SHIFT) + self._next
            self._next += len(blobs)
        records = []
        for task_id in range(first, first + len(blobs)):
            record = Record(task_id, key or f"{name}-{task_id:x}")
            self.records[task_id] = record
            records.append(record)
        start = 0
        while start < len(blobs):
            end, size = start, 0
            while end < len(blobs) and size < TARGET_BYTES:
                size += len(blobs[end]) + 16 + 9 * len(deps[end])
                end += 1
            self._send(
                schema.SUBMIT.pack(
                    first + start,
                    digest,
                    blobs[start:end],
                    deps[start:end] if any_deps else [],
                    list(workers),
                    loose,
                    key or "",
                    retries,
                    priority,
                )
            )
            start = end
        return records

    async def scatter(
        self, values: Sequence[Any], addresses: Sequence[str], broadcast: bool
    ) -> list[Record]:
        """Put values on workers, in turn or each on all; in the reactor's thread."""
        first = (self._index << CLIENT_SHIFT) + self._next
        self._next += len(values)
        records = []
        places: dict[str, tuple[list[TaskId], list[Any]]] = {}
        for offset, value in enumerate(values):
            record = Record(first + offset, f"data-{first + offset:x}")
            dumped = dump_value(value)
            record.nbytes = value_nbytes(dumped)
            self.records[record.id] = record
            records.append(record)
            turn = addresses if broadcast else [addresses[offset % len(addresses)]]
            for address in turn:
                ids, blobs = places.setdefault(address, ([], []))
                ids.append(record.id)
                blobs.append(dumped)
        for address, (ids, blobs) in places.items():
            connection = await self.data.connection(address)
            await connection.put(ids, blobs)
            sizes = [value_nbytes(blob) for blob in blobs]
            self._send(schema.SCATTERED.pack(ids, sizes, address))
        return records

    # -- receiving, in the reactor's thread

    def _received(self, number: int, fields: dict[str, Any]) -> None:
        records = self.records
        if number == schema.FINISHED.number:
            for task_id, nbytes, value in zip(fields["ids"], fields["nbytes"], fields["values"]):
                record = records.get(task_id)
                if record is not None:
                    record.nbytes = nbytes
                    if value is not None:
                        record.value = value
                    self._finish(record, FINISHED, None)
        elif number == schema.ERRED.number:
            for task_id, *error in zip(
                fields["ids"], fields["kinds"], fields["blobs"], fields["texts"]
            ):
                record = records.get(task_id)
                if record is not None:
                    self._finish(record, _STATUS.get(error[0], ERROR), tuple(error))
        elif number == schema.LOCATED.number:
            self._questions.answered(fields["request"], fields["sources"])
        elif number == schema.ANSWER.number:
            error = fields["error"]
            result = RefusedError(error) if error else fields["result"]
            self._questions.answered(fields["request"], result)
        elif number == schema.KEYS.number:
            self.membership.learn(fields["keys"])
        else:
            self._index = fields["index"]
            self._releasing = self.reactor.callLater(RELEASE_DELAY_S, self._release_tick)
            self._welcome.callback(None)

    def _finish(self, record: Record, status: str, error: Any) -> None:
        if record.status is not PENDING and status is FINISHED:
            return
        with self._lock:
            record.error = error
            record.status = status
            waiters, record.waiters = record.waiters, None
        for each in waiters or ():
            try:
                each(record)
            except Exception:
                self.log.failure("a done callback failed")

    def when_done(self, record: Record, function: Callable[[Record], None]) -> None:
        """Call *function* in the reactor's thread when done; in this one if it is."""
        with self._lock:
            if record.status is PENDING:
                if record.waiters is None:
                    record.waiters = []
                record.waiters.append(function)
                return
        function(record)

    def when_settled(
        self, record: Record, function: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Call ``function(value, exception)`` in the reactor's thread, the value fetched."""

        def give() -> None:
            try:
                assert record.value is not None
                value = load_value(record.value)
            except BaseException as problem:
                function(None, problem)
            else:
                function(value, None)

        def fetch() -> None:
            fetching = defer.Deferred.fromCoroutine(self.fetcher.fetch([record]))
            fetching.addCallbacks(lambda _: give(), lambda f: function(None, f.value))

        def done(record: Record) -> None:
            problem = record.exception()
            if problem is not None:
                function(None, problem)
            elif record.value is not None:
                give()
            else:
                self.reactor.callFromThread(fetch)

        self.when_done(record, done)

    def wait_all(self, records: Sequence[Record], timeout: float | None) -> None:
        """Block until all are done. Raises TimeoutError."""
        pending = [each for each in records if each.status is PENDING]
        if not pending:
            return
        countdown = Countdown(len(pending))
        for each in pending:
            self.when_done(each, countdown)
        if not countdown.wait(timeout):
            left = sum(each.status is PENDING for each in pending)
            raise TimeoutError(f"{left} of {len(records)} tasks not done within {timeout} s")

    # -- asking

    async def query(self, what: str, arguments: Any = None) -> Any:
        """One of the scheduler's views; in the reactor's thread."""
        return await self._questions.ask(schema.QUERY, what, arguments)

    async def _locate(self, ids: list[TaskId]) -> list[tuple[str, list[TaskId]]]:
        return cast("list[tuple[str, list[TaskId]]]", await self._questions.ask(schema.LOCATE, ids))
