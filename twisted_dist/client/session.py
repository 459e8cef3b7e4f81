"""A client's session with the scheduler: records, submission, results.

One implementation below `Client` and `AsyncClient`. User threads pickle and append to the
outbox, which `Sender` sends; the reactor's thread marks records done.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, cast

from twisted.internet import defer
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger

from twisted_dist.access.find import GivenAccess
from twisted_dist.access.roles import ADMIN, SUBMIT
from twisted_dist.aliases import TaskId, Value
from twisted_dist.client.explanation import Explanation
from twisted_dist.client.fetching import Fetcher, Located
from twisted_dist.client.flow import Flow
from twisted_dist.client.future import CANCELLED, ERROR, LOST, Record
from twisted_dist.client.journal import Data, Journal
from twisted_dist.client.leases import Leases
from twisted_dist.client.outbox import Ids, Outbox
from twisted_dist.client.pickling import Calls
from twisted_dist.client.questions import ANSWER_S, Questions
from twisted_dist.client.reach import PATIENCE_S, Reach
from twisted_dist.client.records import Records
from twisted_dist.client.sender import Sender
from twisted_dist.client.submitting import Submitter
from twisted_dist.client.tidying import Tidier
from twisted_dist.core import task as kinds
from twisted_dist.errors import ConnectionClosedError, InsecureWarning, RefusedError
from twisted_dist.execution.payloads import value_nbytes
from twisted_dist.wire import schema
from twisted_dist.wire.membership import Membership
from twisted_dist.wire.pool import DataPool
from twisted_dist.wire.session import StreamSession

_FROM_SCHEDULER: Final = (
    schema.WELCOME.number,
    schema.KEYS.number,
    schema.PEERS.number,
    schema.FINISHED.number,
    schema.ERRED.number,
    schema.LOCATED.number,
    schema.ANSWER.number,
)
#: seconds that a client which closes waits for a scheduler that may not have heard all
HEARD_S: Final = 10.0
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


class Session:
    """The state of one client. Methods are thread-safe unless they say otherwise."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: str,
        name: str,
        membership: Membership,
        ticket: bytes = b"",
        chance: Random | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.reactor = reactor
        self.membership = membership
        self.address = address
        self.name = name
        self.closed = False
        self._reach = Reach(
            reactor,
            address,
            name,
            membership,
            ticket,
            chance or Random(),
            patience_s,
            _FROM_SCHEDULER,
            self,
        )
        self.records = Records(self.log)
        outbox = Outbox()
        self._journal = journal = Journal(self.records)
        self.sender = Sender(reactor, outbox, journal.forget, self._unsent)
        journal.drop = self.sender.drop
        self.flow = flow = Flow(reactor, self._count_pending, lambda: self.sender.unsent)
        self.submitter = Submitter(
            outbox, self.records, self.sender.wake, self.sender.drop, journal, flow.wait
        )
        self._questions = Questions(reactor, address, self.sender.send)
        self.leases = Leases(reactor, self.ask)
        self.data = DataPool(reactor, name, membership, address)
        self.fetcher = Fetcher(reactor, self.data, self._locate)
        self._tidier = Tidier(reactor)
        #: {name: bytes} of what this client has uploaded
        self.uploaded: dict[str, bytes] = {}
        #: called when a scheduler that knew nothing of before was told all but `uploaded`
        self.began_again: Callable[[], None] = lambda: None

    def _count_pending(self) -> int:
        return self.submitter.submitted - self.records.ended

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler is there."""
        return self._reach.is_open

    # -- life, in the reactor's thread

    async def connect(self, timeout_s: float) -> None:
        """Dial until the scheduler is there, *timeout_s* seconds at most; as of `Reach.connect`."""
        self.flow.begin()
        await self._reach.connect(timeout_s)

    async def close(self) -> None:
        """Tell the scheduler, and end everything.

        Where tasks are to run to their end (`let_run`), the scheduler has heard of them before,
        unless it is out of reach for `HEARD_S`.
        """
        if self.closed:
            return
        self.closed = True
        if self._journal.runs_on and self._reach.is_open:
            await self._be_heard()
        self.flow.end()
        self.leases.lose()
        self.data.close()
        self.fetcher.close()
        self._tidier.close()
        self.sender.close()
        await self._reach.close("this client was closed")
        self._fail_all("the client was closed")

    async def _be_heard(self) -> None:
        """See that what was said has come: after a good-bye, a lost connection is not dialled."""
        try:
            await self._questions.ask(schema.LOCATE, [], within_s=HEARD_S)
        except (ConnectionClosedError, RefusedError) as problem:
            told = "closing, and not all that is to run on may have been heard of: {why}"
            self.log.warn(told, why=problem)

    def began(self, session: StreamSession, index: int, *, again: bool) -> None:
        """Send what there is, and first, where it is *again*, all that this client is owed."""
        self.submitter.index = index
        if again:
            self.log.info("the scheduler at {s} has begun anew", s=self.address)
            payloads, orphans = self._journal.retell()
            session.send_all(payloads)
            for each in orphans:
                told = "it was handed over by a scheduler that has begun anew since"
                self.records.erred(each, LOST, ("connection", b"", told))
            self._questions.ask_again(session.send)
        self.sender.begin(session)
        self.sender.drain()
        if again:
            self.began_again()

    def paused(self, *, is_cut: bool) -> None:
        """Keep what is to be said."""
        if is_cut:
            self.sender.detach()
        else:
            self.leases.lose()
            self.sender.pause()

    def goes_on(self) -> None:
        """Say it."""
        self.sender.attach()

    def lost(self, reason: str) -> None:
        """Everything that is owed is lost."""
        self.sender.lose()
        self.flow.end()
        self.leases.lose()
        self._fail_all(f"the connection to the scheduler at {self.address} was lost: {reason}")

    def _fail_all(self, text: str) -> None:
        self._questions.fail_all(text)
        self.records.lose_pending(text)

    # -- asking, without an answer

    def _unsent(self) -> None:
        self._fail_all(f"the connection to the scheduler at {self.address} was lost")

    def drop(self, task_id: TaskId) -> None:
        """A future was garbage collected; told to the scheduler a little later."""
        self.sender.drop(task_id)

    def cancel(self, ids: Sequence[TaskId]) -> None:
        """Ask that tasks do not run."""
        self._journal.cancel(ids)
        for payload in schema.CANCEL.encode(Ids(list(ids))):
            self.sender.send(payload)

    def let_run(self, ids: Sequence[TaskId]) -> None:
        """Ask that tasks run to their end, whoever holds futures of them."""
        self._journal.let_run(ids)
        for payload in schema.RUNAWAYS.encode(Ids(list(ids))):
            self.sender.send(payload)

    # -- data

    async def scatter(self, values: Sequence[Value], addresses: Sequence[str]) -> list[Record]:
        """Put serialised values on workers, in turn; in the reactor's thread."""
        self._tidier.begin()
        first = self.submitter.take_ids(len(values))
        records = []
        places: dict[str, tuple[list[Data], list[Value]]] = {}
        for offset, value in enumerate(values):
            record = Record(first + offset, f"data-{first + offset:x}")
            record.nbytes = value_nbytes(value)
            record.origin = data = Data(record.id, record.nbytes, is_there=False)
            self.records.add(record)
            records.append(record)
            those, blobs = places.setdefault(addresses[offset % len(addresses)], ([], []))
            those.append(data)
            blobs.append(value)
        putting = [
            defer.Deferred.fromCoroutine(self._put(address, those, blobs))
            for address, (those, blobs) in places.items()
        ]
        results: Any = await defer.DeferredList(putting, consumeErrors=True)
        for succeeded, result in results:
            if not succeeded:
                for record in records:
                    self.drop(record.id)
                result.raiseException()
        return records

    async def _put(self, address: str, data: list[Data], values: list[Value]) -> None:
        connection = await self.data.connection(address)
        ids = [each.first for each in data]
        holder = await connection.put(ids, values)
        for each in data:
            each.is_there = True
        self.sender.send(schema.SCATTERED.pack(ids, [each.nbytes for each in data], holder))

    # -- receiving, in the reactor's thread

    def received(self, number: int, fields: dict[str, Any]) -> None:
        """A message has come."""
        if number == schema.FINISHED.number:
            self.records.finished(fields["ids"], fields["nbytes"], fields["values"])
        elif number == schema.ERRED.number:
            columns = (fields[name] for name in ("ids", "kinds", "blobs", "texts"))
            for task_id, *error in zip(*columns):
                status = _STATUS.get(error[0], ERROR)
                self.records.erred(task_id, status, tuple(error))
        elif number == schema.LOCATED.number:
            self._questions.answered(fields["request"], (fields["sources"], fields["aliases"]))
        elif number == schema.ANSWER.number:
            error = fields["error"]
            result = RefusedError(error) if error else fields["result"]
            self._questions.answered(fields["request"], result)
        elif number == schema.PEERS.number:
            self._reach.learn_peers(**fields)
        elif number == schema.KEYS.number:
            self.membership.learn(fields["keys"])
        else:
            self._reach.welcomed(**fields)

    # -- asking

    async def query(self, what: str, arguments: Any = None) -> Any:
        """One of the scheduler's views; in the reactor's thread."""
        return await self._questions.ask(schema.QUERY, what, arguments)

    async def ask(
        self,
        what: str,
        name: str = "",
        parcel: Calls | None = None,
        number: int = 0,
        timeout: float | None = 0.0,
        late: Callable[[Any], None] | None = None,
    ) -> Any:
        """Have something done by name (`core.requests`); in the reactor's thread.

        Args:
            what: the operation.
            name: of what it is about.
            parcel: a value that goes along.
            number: whatever the operation takes.
            timeout: seconds that the scheduler may wait with its answer; None for ever.
            late: as of `Questions.ask`.

        Raises:
            RefusedError: the scheduler says why it cannot be.
            ConnectionClosedError: it went away, or did not answer.
        """
        blob, ids = (parcel.blobs[0], parcel.deps[0]) if parcel is not None else (b"", [])
        wait_s = -1.0 if timeout is None else float(timeout)
        within_s = None if timeout is None else timeout + ANSWER_S
        fields = what, name, blob, list(ids), number, wait_s
        return await self._questions.ask(schema.ASK, *fields, within_s=within_s, late=late)

    async def ask_workers(
        self, name: str, blob: bytes, first: TaskId, count: int, timeout: float | None
    ) -> list[Any]:
        """Have *count* workers run a call, answered by each: how; in the reactor's thread."""
        wait_s = -1.0 if timeout is None else float(timeout)
        within_s = None if timeout is None else timeout + ANSWER_S
        fields: Any = ("run", name, blob, [], first, wait_s)
        return await self._questions.ask_for_each(count, schema.ASK, *fields, within_s=within_s)

    def claim(self, record: Record, holder: int) -> None:
        """Bring data here that a worker holds under an id of this client's."""
        self._tidier.begin()
        self.records.adopt(record)
        sizes = [record.nbytes]
        self.sender.send(schema.SCATTERED.pack([record.id], sizes, holder))

    async def explain(self, record: Record) -> Explanation:
        """What the scheduler knows of a task; in the reactor's thread."""
        return Explanation(await self.query("explain", [record.id, record.key]))

    def explain_blocking(self, record: Record) -> Explanation:
        """`explain` from a user's thread."""
        if self.closed:  # its reactor may have ended too
            raise ConnectionClosedError("the client was closed")
        wait: Any = blockingCallFromThread  # whose types know no coroutines
        answer = wait(self.reactor, defer.ensureDeferred, self.explain(record))
        assert isinstance(answer, Explanation)
        return answer

    def adopt(self, ids: Sequence[TaskId], keys: Sequence[str]) -> list[Record]:
        """Records of futures that the scheduler has made for this client."""
        records = [Record(task_id, key) for task_id, key in zip(ids, keys)]
        for record in records:
            self.records.adopt(record)
        return records

    async def _locate(self, ids: list[TaskId]) -> Located:
        self._tidier.begin()
        return cast("Located", await self._questions.ask(schema.LOCATE, ids))
