"""Bulk data between members: values by id, on connections of their own.

Whoever dials says hello and `OpenData` to a worker's port; then frames (docs/protocol.md,
"Data connections"). Ends on one host prove to each other that they can read what the other
shares: then a large value is not sent at all, but where it is. Otherwise it follows as
bytes, as fast as the other end takes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgpack
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.aliases import TaskId, Value
from twisted_dist.errors import (
    ConnectError,
    ConnectionClosedError,
    NoRoomError,
    ProtocolError,
)
from twisted_dist.execution.payloads import in_band, opened, value_nbytes
from twisted_dist.segments.probe import can_read, lend_probe
from twisted_dist.segments.segment import Segment
from twisted_dist.wire.data_messages import (
    GET,
    GOT,
    GOT_PLACED,
    GOT_STREAM,
    HOST,
    MAX_DATA_BYTES,
    NOT_READ,
    PUT,
    PUT_PLACED,
    PUT_STREAM,
    READS,
    STORED,
    TAKEN,
    checked,
    header_sum,
)
from twisted_dist.wire.frames import frame
from twisted_dist.wire.inflow import Inflow, make_sink
from twisted_dist.wire.outflow import Outflow, Part
from twisted_dist.wire.transports import read_much, send_at_once

#: values are gathered into frames of about this size
PIECE_BYTES: Final = 4 * 2**20
#: a value up to this size rides in a frame with others, even if it is a segment
FRAMED_BYTES: Final = 2**20
#: seconds that a peer which owes an answer may say nothing; half a worker's lease
SILENCE_S: Final = 30.0
#: bytes a second that a connection carries at least; what is sent is given time by it
SLOWEST_BYTES_S: Final = 2**20
#: the kinds of messages that carry values: framed, placed, streamed
_ANSWERS: Final = (GOT, GOT_PLACED, GOT_STREAM)
_PUTS: Final = (PUT, PUT_PLACED, PUT_STREAM)


class _Request:
    """What this end has asked."""

    __slots__ = ("answer", "is_put", "is_repeated", "not_read", "sent", "values")

    def __init__(self, answer: defer.Deferred[Any], is_put: bool) -> None:
        self.answer = answer
        self.is_put = is_put
        #: all was sent once more, since some was not read where it is
        self.is_repeated = False
        #: what has come of it
        self.values: dict[TaskId, Value] = {}
        #: of what was placed, what could not be read there
        self.not_read: list[TaskId] = []
        #: what was put
        self.sent: dict[TaskId, Value] = {}


class DataProtocol(Protocol):
    """Either end of a data connection.

    A peer that owes answers and sends nothing for `SILENCE_S` (a stopped process, a lost
    cable) is given up: the connection ends, and what it owes fails.

    Args:
        clock: for that; an end that asks has one.
        find: gives the value of an id, or None; a serving end has one.
        store: takes ids and values in, and gives the number that this end is registered
            under; a serving end has one.

    Attributes:
        ready: fires when both ends know whether they are on one host; an end that asks may
            wait for it, and large values are sent in full until then.
    """

    log = Logger()
    transport: Any

    def __init__(
        self,
        clock: IReactorTime | None = None,
        find: Callable[[TaskId], Value | None] | None = None,
        store: Callable[[list[TaskId], list[Value]], int] | None = None,
    ) -> None:
        self._clock = clock
        self._patience: Any = None
        self._find = find
        self._store = store
        self._inflow = Inflow(MAX_DATA_BYTES, self._received)
        self._outflow: Any = None
        self._requests: dict[int, _Request] = {}
        self._next = 0
        self.ready: defer.Deferred[None] = defer.Deferred()
        #: the peer's process, and whether it reads what this one shares, and this one its
        self._peer = 0
        self._is_read = self._reads = False
        #: {the peer's request: what it may be opening}
        self._lent: dict[int, list[Segment]] = {}
        #: {the peer's request: what it has put so far, and whether all of that is here}
        self._coming: dict[int, dict[TaskId, Value | None]] = {}

    def connectionMade(self) -> None:
        """A lone request must not wait for an acknowledgement."""
        send_at_once(self.transport)
        read_much(self.transport)
        self._outflow = Outflow(self.transport)
        if self._find is None:
            self._introduce()

    def _introduce(self) -> None:
        probe = lend_probe()
        if probe is None:
            self._send([HOST, 0, None, self._reads])
        else:
            self._send([HOST, os.getpid(), probe.place(), self._reads])

    def no_word(self, result: Any, timeout_s: float) -> None:
        """The peer has not said within *timeout_s* what is `ready`'s to know."""
        if self.transport is not None:
            self.transport.abortConnection()
        raise ConnectError(f"the other end has not introduced itself within {timeout_s:g} s")

    # -- asking

    def get(self, ids: Sequence[TaskId]) -> defer.Deferred[dict[TaskId, Value]]:
        """Fetch values; fires with those the peer has."""
        request = self._ask(SILENCE_S, is_put=False)
        if request:
            self._send([GET, request, list(ids)])
            return self._requests[request].answer
        return self._closed()

    def put(self, ids: Sequence[TaskId], values: Sequence[Value]) -> defer.Deferred[int]:
        """Store values at the peer; fires with its number at the scheduler when it holds them.

        Fails with NoRoomError where it cannot hold all of them: then it holds none.
        """
        patience_s = SILENCE_S + sum(map(value_nbytes, values)) / SLOWEST_BYTES_S
        request = self._ask(patience_s, is_put=True)
        if request:
            asked = self._requests[request]
            asked.sent = dict(zip(ids, values))
            self._outflow.add(self._parts(_PUTS, request, ids, values))
            return asked.answer
        return self._closed()

    def _closed(self) -> defer.Deferred[Any]:
        return defer.fail(ConnectionClosedError("the data connection is closed"))

    def _ask(self, patience_s: float, is_put: bool) -> int:
        """A new request's number; 0 where nothing can be asked."""
        if self.transport is None:
            return 0
        self._next += 1
        self._requests[self._next] = _Request(defer.Deferred(), is_put)
        self._expect(patience_s)
        return self._next

    def _expect(self, seconds: float) -> None:
        """Something must come within *seconds*, or later if more time was given before."""
        if self._clock is None:
            return
        if self._patience is None:
            self._patience = self._clock.callLater(seconds, self._give_up)
        elif self._patience.getTime() < self._clock.seconds() + seconds:
            self._patience.reset(seconds)

    def _give_up(self) -> None:
        self._patience = None
        self.log.warn("closing {p}: it owes data and is silent", p=self.transport.getPeer())
        self.transport.abortConnection()

    def _heard(self) -> None:
        if self._patience is not None and not self._requests:
            self._patience.cancel()
            self._patience = None
        elif self._patience is not None:
            self._expect(SILENCE_S)

    # -- sending

    def _send(self, message: list[Any]) -> None:
        if self._outflow is not None:
            self._outflow.send(_framed(message))

    def _parts(
        self, kinds: Sequence[int], request: int, ids: Sequence[TaskId], values: Sequence[Value]
    ) -> Iterator[Part]:
        """What is written of values, made as it is written."""
        framed, placed, streamed = kinds
        piece: tuple[list[TaskId], list[Any]] = ([], [])
        places: tuple[list[TaskId], list[Any]] = ([], [])
        size = 0
        for task_id, value in zip(ids, values):
            try:
                if isinstance(value, Segment) and self._is_read:
                    self._lent.setdefault(request, []).append(value)
                    places[0].append(task_id)
                    places[1].append(value.place())
                    continue
                if isinstance(value, Segment) and value.nbytes > FRAMED_BYTES:
                    sum_ = header_sum(task_id, value.lengths)
                    yield _framed([streamed, request, task_id, list(value.lengths), sum_])
                    yield value
                    continue
                piece[1].append(in_band(value))
                piece[0].append(task_id)
            except OSError as problem:  # its disk, if it is on one
                self.log.error("cannot read a value: {problem}", problem=problem)
                continue
            size += value_nbytes(value)
            if size >= PIECE_BYTES:
                yield _framed([framed, request, *piece, False])
                piece, size = ([], []), 0
        # together: the other end need not wake twice
        before = _framed([placed, request, *places]) if places[0] else b""
        yield before + _framed([framed, request, *piece, True])

    # -- receiving

    def dataReceived(self, data: bytes) -> None:
        """Serve requests, collect answers; a malformed frame ends the connection."""
        try:
            self._inflow.feed(data)
        except ProtocolError as bad:
            self.log.warn("closing {p}: {bad}", p=self.transport.getPeer(), bad=bad)
            self.transport.abortConnection()
        self._heard()

    def _received(self, payload: bytes) -> None:
        kind, request, *fields = checked(payload)
        if kind in (*_ANSWERS, STORED):
            asked = self._requests.get(request)
            if asked is None or asked.is_put is not (kind == STORED):
                raise ProtocolError(f"an answer to request {request}, which was not asked")
            self._answered(kind, request, fields)
        elif kind in (HOST, READS, TAKEN):
            self._met(kind, request, fields)
        elif kind == GET and self._find is not None:
            find = self._find
            found = ((each, find(each)) for each in fields[0])
            here = [(each, value) for each, value in found if value is not None]
            ids, values = [each for each, _ in here], [value for _, value in here]
            self._outflow.add(self._parts(_ANSWERS, request, ids, values))
        elif kind in _PUTS and self._store is not None:
            self._put(kind, request, fields)
        else:
            raise ProtocolError(f"data message {kind} is not one that this peer may send")

    def _met(self, kind: int, number: int, fields: list[Any]) -> None:
        """About the two ends themselves."""
        if kind == TAKEN:
            self._lent.pop(number, None)
        elif kind == READS:
            self._is_read = fields[0]
        else:
            self._peer = number
            self._reads = can_read(number, fields[0])
            if self._find is not None:
                self._introduce()
                return
            self._is_read = fields[1]
            self._send([READS, 0, self._reads])
            if not self.ready.called:
                self.ready.callback(None)

    def _answered(self, kind: int, request: int, fields: list[Any]) -> None:
        asked = self._requests[request]
        if kind == GOT_STREAM:
            task_id, lengths = fields[:2]
            self._inflow.expect(make_sink(lengths), lambda v: _keep(asked.values, task_id, v))
        elif kind == GOT_PLACED:
            here, missed = self._open(*fields)
            asked.values.update(here)
            asked.not_read += missed
            self._send([TAKEN, request])
        elif kind == STORED and fields[0] == NOT_READ:
            self._lent.pop(request, None)
            self._put_again(request, asked)
        elif kind == STORED:
            del self._requests[request]
            self._lent.pop(request, None)
            asked.answer.callback(fields[0])
        else:
            asked.values.update(zip(fields[0], fields[1]))
            if fields[2]:
                self._got(request, asked)

    def _put_again(self, request: int, asked: _Request) -> None:
        """Send all that was put; if it was sent already, the peer has no room for it."""
        if asked.is_repeated:
            del self._requests[request]
            asked.answer.errback(NoRoomError("the other end has no room for it"))
            return
        asked.is_repeated = True
        self._is_read = False
        ids, values = list(asked.sent), list(asked.sent.values())
        self._outflow.add(self._parts(_PUTS, request, ids, values))

    def _got(self, request: int, asked: _Request) -> None:
        """All that the peer has of what was asked; what could not be read is to be sent."""
        if asked.not_read:
            again, asked.not_read = asked.not_read, []
            self._send([READS, 0, False])
            self._send([GET, request, again])
            return
        del self._requests[request]
        asked.answer.callback(asked.values)

    def _put(self, kind: int, request: int, fields: list[Any]) -> None:
        assert self._store is not None
        coming = self._coming.setdefault(request, {})
        if kind == PUT_STREAM:
            task_id, lengths = fields[:2]
            self._inflow.expect(make_sink(lengths), lambda v: coming.__setitem__(task_id, v))
        elif kind == PUT_PLACED:
            here, missed = self._open(*fields)
            coming.update(here)
            coming.update(dict.fromkeys(missed))
        else:
            coming.update(zip(fields[0], fields[1]))
            if not fields[2]:
                return
            del self._coming[request]
            values = {each: value for each, value in coming.items() if value is not None}
            if len(values) < len(coming):
                self._send([STORED, request, NOT_READ])
            else:
                number = self._store(list(values), list(values.values()))
                self._send([STORED, request, number])

    def _open(
        self, ids: list[TaskId], places: list[list[Any]]
    ) -> tuple[dict[TaskId, Value], list[TaskId]]:
        """What the peer has placed; and which of it cannot be read."""
        here: dict[TaskId, Value] = {}
        missed = []
        for task_id, place in zip(ids, places):
            try:
                if not self._reads:
                    raise OSError("what this peer shares cannot be read here")
                here[task_id] = opened(self._peer, place)
            except OSError as problem:
                missed.append(task_id)
                self.log.info("to be sent instead: {problem}", problem=problem)
        return here, missed

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what is still owed."""
        self.transport = None
        if self._outflow is not None:
            self._outflow.stopProducing()
        self._inflow.close()
        self._lent.clear()
        self._coming.clear()
        requests, self._requests = self._requests, {}
        self._heard()
        if not self.ready.called:
            self.ready.addErrback(lambda _: None)
            self.ready.errback(ConnectionClosedError(reason.getErrorMessage()))
        for each in requests.values():
            each.answer.errback(ConnectionClosedError(reason.getErrorMessage()))


def _framed(message: list[Any]) -> bytes:
    return frame(msgpack.packb(message, use_bin_type=True))


def _keep(values: dict[TaskId, Value], task_id: TaskId, value: Value | None) -> None:
    """A value that came; one that could not be kept here is as one that the peer has not."""
    if value is not None:
        values[task_id] = value
