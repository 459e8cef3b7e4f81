"""The scheduler's ends of task streams: messages ↔ stimuli and instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.options import PLAIN, Options
from twisted_dist.errors import ProtocolError, RefusedError
from twisted_dist.wire import schema
from twisted_dist.wire.frames import TARGET_BYTES
from twisted_dist.wire.session import StreamSession

_FROM_WORKER: Final = {
    schema.DONE.number: s.TasksFinished,
    schema.FAILED.number: s.TasksErred,
    schema.RETURNED.number: s.TasksReturned,
    schema.KILLED.number: s.TasksKilled,
    schema.STOPPED.number: s.TasksStopped,
    schema.MISSING.number: s.InputsMissing,
    schema.COPIES.number: s.ReplicasAdded,
    schema.PUT.number: s.DataPut,
    schema.SECEDED.number: s.TasksSeceded,
    schema.RESULTS_CLAIMED.number: s.ResultsClaimed,
    schema.TASKS_CLAIMED.number: s.TasksClaimed,
    schema.ALL_CLAIMED.number: s.AllClaimed,
    schema.RETIRE.number: s.RetirementWanted,
    schema.HEARTBEAT.number: s.Heartbeat,
}
_FROM_CLIENT: Final = {
    schema.FUNCTION.number: s.FunctionDefined,
    schema.SUBMIT.number: s.TasksSubmitted,
    schema.RELEASE.number: s.KeysReleased,
    schema.CANCEL.number: s.CancelRequested,
    schema.LOCATE.number: s.LocationsAsked,
    schema.SCATTERED.number: s.DataScattered,
    schema.RUNAWAYS.number: s.RunawaysNamed,
    schema.ASK.number: s.Asked,
}
_TO_WORKER: Final = {
    i.SendFunction: schema.GIVE_FUNCTION,
    i.ReleaseData: schema.FORGET,
    i.DropTasks: schema.DROP,
    i.StopTasks: schema.STOP,
    i.RestartWorker: schema.RESTART,
    i.LeaveNow: schema.LEAVE,
}
_TO_CLIENT: Final = {
    i.ReportFinished: schema.FINISHED,
    i.ReportErred: schema.ERRED,
    i.ReportLocations: schema.LOCATED,
    i.Reply: schema.ANSWER,
}
#: {what only an admin may ask for: why}
_FOR_ADMINS: Final = {"restart": "it ends what others compute", "retire": "it ends workers"}
#: bytes of an integer in msgpack, at most
ID_BYTES: Final = 9

Stimulate = Callable[[s.Stimulus], None]


#: copies that a worker is told to fetch in one message, and so in one request
AT_ONCE: Final = 10_000
#: sources up to this many ids go along with every frame of a batch, unsorted
FEW_SOURCES: Final = 1000


def _run_pieces(run: i.Run) -> Iterator[slice]:
    """Ranges of a run whose calls and dependencies stay near `TARGET_BYTES`."""
    if not run.deps:
        yield from schema.pieces(len(run.calls), [run.calls])
        return
    start = total = 0
    for index, (call, deps) in enumerate(zip(run.calls, run.deps)):
        size = len(call) + ID_BYTES * (len(deps) + 2)
        if total and total + size > TARGET_BYTES:
            yield slice(start, index)
            start, total = index, 0
        total += size
    yield slice(start, len(run.calls))


def _options(given: dict[str, Any]) -> Options:
    if not given:
        return PLAIN
    fields = {**given, "workers": tuple(given.get("workers", ()))}
    fields["resources"] = tuple(sorted(given.get("resources", {}).items()))
    return Options(**fields)


class WorkerEnd:
    """One registered worker's connection.

    Args:
        number: of the worker.
        stimulate: takes what the core is to know.
        gone: told the number, and why, when the session is over.
        cut: likewise, when its connection is lost, and may be dialled again.
        turned: called after each batch.
        give_ticket: for a task that submits tasks.
        beside: ``{message's number: what takes the worker's number and the fields}`` for what
            the core need not know.
    """

    def __init__(
        self,
        number: int,
        stimulate: Stimulate,
        gone: Callable[[int, str], None],
        cut: Callable[[int, str], None],
        turned: Callable[[], None],
        give_ticket: Callable[[int, int, int], bytes],
        beside: Mapping[int, Callable[[int, dict[str, Any]], None]],
    ) -> None:
        self.number = number
        self._stimulate = stimulate
        self._give_ticket = give_ticket
        self._beside = beside
        allowed = (*_FROM_WORKER, schema.PASS_WANTED.number, *beside)
        self.session = StreamSession(
            allowed, self._received, partial(gone, number), turned, partial(cut, number)
        )
        self.send = self.session.send

    def _received(self, number: int, fields: dict[str, Any]) -> None:
        if number == schema.PASS_WANTED.number:
            self._give_pass(**fields)
            return
        if number in self._beside:
            self._beside[number](self.number, fields)
            return
        self._stimulate(_FROM_WORKER[number](self.number, **fields))

    def _give_pass(self, request: int, task: int, attempt: int) -> None:
        try:
            ticket = self._give_ticket(self.number, task, attempt)
        except RefusedError as problem:
            self.send(schema.PASS.pack(request, b"", str(problem)))
        else:
            self.send(schema.PASS.pack(request, ticket, ""))
        self.session.flush()

    def execute(self, instruction: i.Instruction) -> None:
        """Put an instruction on the wire."""
        if isinstance(instruction, i.SendTasks):
            self._send_tasks(instruction)
        elif isinstance(instruction, i.CopyData):
            for address, ids in instruction.sources:
                for start in range(0, len(ids), AT_ONCE):
                    self.send(schema.COPY.pack([[address, ids[start : start + AT_ONCE]]]))
        elif isinstance(instruction, i.EndWorker):
            self.session.end(instruction.reason, returns=True)
        else:
            self.session.send_all(_TO_WORKER[type(instruction)].encode(instruction))

    def _send_tasks(self, message: i.SendTasks) -> None:
        runs: list[list[Any]] = []
        room = TARGET_BYTES
        for run in message.runs:
            for part in _run_pieces(run):
                deps = run.deps[part]
                calls = run.calls[part]
                runs.append(
                    [run.digest, run.ids[part], run.attempts[part], calls, deps, run.wanted]
                )
                room -= sum(map(len, calls)) + ID_BYTES * (2 * len(calls) + sum(map(len, deps)))
                if room <= 0:
                    self.send(schema.TASKS.pack(runs, _sources_of(runs, message.sources)))
                    runs, room = [], TARGET_BYTES
        if runs:
            self.send(schema.TASKS.pack(runs, _sources_of(runs, message.sources)))


def _sources_of(runs: list[list[Any]], sources: Sequence[Any]) -> Sequence[Any]:
    """What these runs need of *sources*: a large table does not go along with every frame."""
    if sum(len(held) for _, held in sources) <= FEW_SOURCES:
        return sources
    needed = {each for run in runs for deps in run[4] for each in deps}
    told = [(address, [each for each in held if each in needed]) for address, held in sources]
    return [pair for pair in told if pair[1]]


class ClientEnd:
    """One registered client's connection.

    Args:
        number: of the client.
        stimulate: takes what the core is to know.
        query: answers questions; raises RefusedError.
        gone: told the number, and why, when the session is over.
        cut: likewise, when its connection is lost, and may be dialled again.
        turned: called after each batch.
        is_admin: it may end what others compute.
        asked: told of each operation that it asks for, and may; whether that is all.
    """

    def __init__(
        self,
        number: int,
        stimulate: Stimulate,
        query: Callable[[str, Any], Any],
        gone: Callable[[int, str], None],
        cut: Callable[[int, str], None],
        turned: Callable[[], None],
        is_admin: bool,
        asked: Callable[[int, dict[str, Any]], bool],
    ) -> None:
        self.number = number
        self._stimulate = stimulate
        self._is_admin = is_admin
        self._asked = asked
        self._query = query
        allowed = (*_FROM_CLIENT, schema.QUERY.number)
        self.session = StreamSession(
            allowed, self._received, partial(gone, number), turned, partial(cut, number)
        )
        self.send = self.session.send

    def _received(self, number: int, fields: dict[str, Any]) -> None:
        if number == schema.QUERY.number:
            self._answer(**fields)
            return
        if number == schema.ASK.number:
            if fields["what"] in _FOR_ADMINS and not self._is_admin:
                self._refuse(fields["request"], fields["what"])
                return
            if self._asked(self.number, fields):
                return
        elif number == schema.SUBMIT.number:
            self._check_submitted(fields)
            fields["options"] = _options(fields["options"])
        elif number == schema.SCATTERED.number and any(
            each >> CLIENT_SHIFT != self.number for each in fields["ids"]
        ):
            raise ProtocolError("scattered ids that are not this client's")
        self._stimulate(_FROM_CLIENT[number](self.number, **fields))

    def _check_submitted(self, fields: dict[str, Any]) -> None:
        first, which, wanted = fields["first"], fields["which"], fields["wanted"]
        count = len(fields["calls"])
        if first >> CLIENT_SHIFT != self.number or (first + count) >> CLIENT_SHIFT != self.number:
            raise ProtocolError(f"task ids from {first} on are not this client's")
        for column in (which, fields["deps"], fields["keys"]):
            if column and len(column) != count:
                raise ProtocolError("submit: columns of different lengths")
        if (which and min(which) < 0) or (wanted and not 0 <= min(wanted) <= max(wanted) < count):
            raise ProtocolError("submit: positions that are none")

    def _refuse(self, request: int, what: str) -> None:
        told = f"{what} needs an admin's access: {_FOR_ADMINS[what]}"
        self.send(schema.ANSWER.pack(request, told, None))

    def _answer(self, request: int, what: str, arguments: Any) -> None:
        try:
            result = self._query(what, arguments)
        except RefusedError as problem:
            self.send(schema.ANSWER.pack(request, str(problem), None))
        else:
            self.send(schema.ANSWER.pack(request, "", result))

    def execute(self, instruction: i.Instruction) -> None:
        """Put an instruction on the wire."""
        if isinstance(instruction, i.EndClient):
            self.session.end(instruction.reason, returns=True)
        else:
            self.session.send_all(_TO_CLIENT[type(instruction)].encode(instruction))
