"""Two ends of a data connection in memory, and transports for one."""

import random

import msgpack
from twisted.internet import task
from twisted.internet.testing import StringTransport
from twisted.test.iosim import connect, makeFakeClient, makeFakeServer

from twisted_dist.access.credential import Credential
from twisted_dist.access.roles import WORKER
from twisted_dist.execution.payloads import in_band
from twisted_dist.segments.pool import POOL
from twisted_dist.wire import data as data_module
from twisted_dist.wire.data import FRAMED_BYTES, DataProtocol
from twisted_dist.wire.tls import TLSProtocol, tls_context

LARGE = random.Random(1).randbytes(FRAMED_BYTES + 12345)


def segment(data=LARGE, *more):
    """A value in shared memory."""
    return POOL.write([data, *more])


def content(values):
    """Values as lists of buffers."""
    found = {each: in_band(value) for each, value in values.items()}
    return {each: v if isinstance(v, list) else [v] for each, v in found.items()}


class Link:
    """A serving and an asking end, introduced; *reads* says whether (asking, serving) can."""

    def __init__(self, monkeypatch, reads=(True, True), tls=False, **store):
        turns = iter(
            [reads[1], reads[0]]
        )  # the asking end speaks first, so the serving tries first
        real = data_module.can_read
        monkeypatch.setattr(
            data_module, "can_read", lambda pid, probe: next(turns) and real(pid, probe)
        )
        self.store = {int(key[1:]): value for key, value in store.items()}
        self.puts = []
        self.server = DataProtocol(None, self.store.get, self._put)
        self.clock = task.Clock()
        self.client = DataProtocol(self.clock)
        ends = [self.server, self.client]
        if tls:
            ends = self._secured(*ends)
        self._pump = connect(ends[0], makeFakeServer(ends[0]), ends[1], makeFakeClient(ends[1]))
        self.flush()
        self.heard = {}
        for end in (self.server, self.client):
            self.heard[end] = []
            self._watch(end)

    @staticmethod
    def _secured(server, client):
        credentials = Credential.make(WORKER), Credential.make(WORKER)
        contexts = [
            tls_context(own, [other.certificate], answers=answers)
            for own, other, answers in (
                (*credentials, True),
                (*credentials[::-1], False),
            )
        ]
        return (
            TLSProtocol(contexts[0], server, answers=True),
            TLSProtocol(contexts[1], client, answers=False),
        )

    def _watch(self, end):
        """Note the numbers of the messages that come."""
        real = end._inflow._received

        def received(payload):
            self.heard[end].append(msgpack.unpackb(payload)[0])
            real(payload)

        end._inflow._received = received

    def _put(self, ids, values):
        self.puts.append(ids)
        self.store.update(zip(ids, values))
        return 5

    def flush(self):
        """Move all bytes."""
        self._pump.flush()

    def get(self, *ids):
        """Fetch, to the end."""
        results = []
        self.client.get(ids).addBoth(results.append)
        self.flush()
        return results[0]

    def put(self, values):
        """Store, to the end."""
        results = []
        self.client.put(list(values), list(values.values())).addBoth(results.append)
        self.flush()
        return results[0]

    def is_at_rest(self):
        """Whether neither end owes, lends or awaits anything."""
        return (
            not any(
                end._requests
                or end._lent
                or end._coming
                or end._inflow._sink
                or end._outflow._queue
                for end in (self.server, self.client)
            )
            and not self.clock.getDelayedCalls()
        )


class Slow(StringTransport):
    """Takes what it is given, and asks for more when it is told to."""

    def registerProducer(self, producer, streaming):
        """As a connection does."""
        super().registerProducer(producer, streaming)
        producer.resumeProducing()


class Quick(Slow):
    """Takes everything."""

    def registerProducer(self, producer, streaming):
        """As a connection that is never full."""
        super().registerProducer(producer, streaming)
        while self.producer is not None:
            self.producer.resumeProducing()
