"""Bulk data between members: values by id, on connections of their own.

Whoever dials says hello and `OpenData` to a worker's port; then frames: ``[1, request,
ids]`` asks for values, answered by ``[2, request, ids, values, last]`` in pieces;
``[3, request, ids, values]`` stores values, answered by ``[4, request, nbytes]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_dist.aliases import TaskId, Value
from twisted_dist.errors import ConnectionClosedError, ProtocolError
from twisted_dist.execution.payloads import value_nbytes
from twisted_dist.wire.frames import FrameDecoder, frame
from twisted_dist.wire.transports import send_at_once, write_now

GET, GOT, PUT, STORED = 1, 2, 3, 4
#: of one frame: one value must fit
MAX_DATA_BYTES: Final = 2**31
#: values are gathered into frames of about this size
PIECE_BYTES: Final = 4 * 2**20


#: seconds that a peer which owes an answer may say nothing; half a worker's lease
SILENCE_S: Final = 30.0
#: bytes a second that a connection carries at least; what is sent is given time by it
SLOWEST_BYTES_S: Final = 2**20

#: kinds of a message's fields after its number and request
_FIELDS: Final[dict[object, tuple[type, ...]]] = {
    GET: (list,),
    GOT: (list, list, bool),
    PUT: (list, list),
    STORED: (int,),
}
_ID: Final[set[object]] = {int}
_BUFFER: Final[set[object]] = {bytes}


def _is_value(value: Any) -> bool:
    return type(value) is bytes or (
        type(value) is list and value != [] and set(map(type, value)) <= _BUFFER
    )


def _checked(payload: bytes) -> list[Any]:
    """A message of the shape that its number asks for; ProtocolError otherwise."""
    try:
        message = msgpack.unpackb(payload, raw=False, max_bin_len=MAX_DATA_BYTES)
    except Exception as problem:
        raise ProtocolError(f"a frame that is not msgpack: {problem}") from None
    if type(message) is not list or set(map(type, message[:2])) != _ID:
        raise ProtocolError("a data message that is not [number, request, …]")
    kinds = _FIELDS.get(message[0])
    if kinds is None:
        raise ProtocolError(f"there is no data message {message[0]}")
    fields = message[2:]
    if tuple(map(type, fields)) != kinds:
        raise ProtocolError(f"data message {message[0]}: wrong fields")
    if list in kinds and not set(map(type, fields[0])) <= _ID:
        raise ProtocolError(f"data message {message[0]}: ids that are not integers")
    if message[0] in (GOT, PUT) and not (
        len(fields[0]) == len(fields[1]) and all(map(_is_value, fields[1]))
    ):
        raise ProtocolError(f"data message {message[0]}: values that are none")
    return message


class DataProtocol(Protocol):
    """Either end of a data connection.

    A peer that owes answers and sends nothing for `SILENCE_S` (a stopped process, a lost
    cable) is given up: the connection ends, and what it owes fails.

    Args:
        clock: for that; an end that asks has one.
        find: gives the value of an id, or None; a serving end has one.
        store: takes ids and values in, and gives the number that this end is registered
            under; a serving end has one.
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
        self._decoder = FrameDecoder(MAX_DATA_BYTES)
        self._requests: dict[int, tuple[defer.Deferred[Any], dict[TaskId, Value]]] = {}
        self._next = 0

    def connectionMade(self) -> None:
        """A lone request must not wait for an acknowledgement."""
        send_at_once(self.transport)

    def get(self, ids: Sequence[TaskId]) -> defer.Deferred[dict[TaskId, Value]]:
        """Fetch values; fires with those the peer has."""
        return self._ask([GET, 0, list(ids)], 0)

    def put(self, ids: Sequence[TaskId], values: Sequence[Value]) -> defer.Deferred[int]:
        """Store values at the peer; fires with its number at the scheduler when it holds them."""
        nbytes = sum(map(value_nbytes, values))
        return self._ask([PUT, 0, list(ids), list(values)], nbytes)

    def _ask(self, message: list[Any], nbytes: int) -> defer.Deferred[Any]:
        self._next += 1
        message[1] = self._next
        answer: defer.Deferred[Any] = defer.Deferred()
        if self.transport is None:
            answer.errback(ConnectionClosedError("the data connection is closed"))
            return answer
        self._requests[self._next] = (answer, {})
        self._send(message)
        self._expect(SILENCE_S + nbytes / SLOWEST_BYTES_S)
        return answer

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

    def _send(self, message: list[Any]) -> None:
        payload = msgpack.packb(message, use_bin_type=True)
        if self.transport is not None:
            write_now(self.transport, frame(payload))

    def dataReceived(self, data: bytes) -> None:
        """Serve requests, collect answers; a malformed frame ends the connection."""
        try:
            for payload in self._decoder.feed(data):
                self._received(payload)
        except ProtocolError as bad:
            self.log.warn("closing {p}: {bad}", p=self.transport.getPeer(), bad=bad)
            self.transport.abortConnection()
        self._heard()

    def _received(self, payload: bytes) -> None:
        kind, request, *fields = _checked(payload)
        if kind in (GOT, STORED) and request not in self._requests:
            raise ProtocolError(f"an answer to request {request}, which was not asked")
        if kind == GOT:
            answer, values = self._requests[request]
            values.update(zip(fields[0], fields[1]))
            if fields[2]:
                del self._requests[request]
                answer.callback(values)
        elif kind == STORED:
            self._requests.pop(request)[0].callback(fields[0])
        elif kind == GET and self._find is not None:
            self._serve(request, fields[0])
        elif kind == PUT and self._store is not None:
            self._send([STORED, request, self._store(fields[0], fields[1])])
        else:
            raise ProtocolError(f"data message {kind} is not one that this peer may send")

    def _serve(self, request: int, ids: list[TaskId]) -> None:
        assert self._find is not None
        found: list[TaskId] = []
        values: list[Value] = []
        size = 0
        for each in ids:
            value = self._find(each)
            if value is None:
                continue
            found.append(each)
            values.append(value)
            size += value_nbytes(value)
            if size >= PIECE_BYTES:
                self._send([GOT, request, found, values, False])
                found, values, size = [], [], 0
        self._send([GOT, request, found, values, True])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what is still owed."""
        self.transport = None
        requests, self._requests = self._requests, {}
        self._heard()
        for answer, _values in requests.values():
            answer.errback(ConnectionClosedError(reason.getErrorMessage()))
