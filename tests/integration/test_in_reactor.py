"""Scheduler, workers and clients as services in one reactor, in a thread."""

import threading

import pytest

from twisted_dist import AsyncClient, Nanny, ReactorThread, Scheduler, Worker

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", [Worker, Nanny])
def test_network_in_one_reactor(kind):
    """`Scheduler`, `Worker`/`Nanny` and `AsyncClient` live in one reactor and leave it clean."""
    threads = set(threading.enumerate())
    with ReactorThread() as loop:

        async def work():
            scheduler = Scheduler(reactor=loop.reactor, host="127.0.0.1")
            address = await scheduler.start(0)
            worker = kind(address, reactor=loop.reactor, nthreads=2, host="127.0.0.1")
            await worker.start(0)
            client = await AsyncClient(address, reactor=loop.reactor).start()
            xs = client.map(abs, range(-50, 0))
            total = await client.submit(sum, xs).result(20)
            there = await client.scatter({"a": 1})
            both = await client.gather([xs[0], there])
            del xs, there
            await client.close()
            await worker.stop()
            await scheduler.stop()
            return total, both

        assert loop.call(work) == (1275, [50, {"a": 1}])
        assert loop.call(loop.reactor.getDelayedCalls) == []
    assert set(threading.enumerate()) == threads
