"""`Executor` as users of concurrent.futures know it, on real daemons."""

import concurrent.futures
import time

import pytest

from twisted_dist import Executor, LocalCluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address():
    """A network of two workers."""
    with LocalCluster(2) as cluster:
        yield cluster.scheduler_address


def test_submit_and_map(address):
    """`Executor.map` gives results in order, `submit` futures of the standard library."""
    with Executor(address) as pool:
        assert list(pool.map(pow, [2, 3], [5, 2])) == [32, 9]
        future = pool.submit(pow, 2, 5)
        assert isinstance(future, concurrent.futures.Future)
        done, not_done = concurrent.futures.wait([future], timeout=20)
        assert done == {future}
        assert not not_done
        assert len(pool.submit(bytes, 300_000).result(20)) == 300_000


def test_exceptions_and_timeout(address):
    """`Executor.submit` brings exceptions; `map` ends in time and cancels the rest."""
    with Executor(address) as pool:
        assert isinstance(pool.submit(int, "x").exception(20), ValueError)
        with pytest.raises(concurrent.futures.TimeoutError):
            list(pool.map(time.sleep, [0, 3], timeout=1.0))
        blocked = pool.submit(time.sleep, 0.5)
        assert blocked.result(20) is None


def test_cancel(address):
    """`Executor`'s futures cancel their tasks while those wait."""
    with Executor(address) as pool:
        futures = [pool.submit(time.sleep, 0.2) for _ in range(20)]
        assert futures[-1].cancel()
        assert futures[-1].cancelled()
        assert all(each.result(20) is None for each in futures[:-1])


def test_shutdown(address):
    """`Executor.shutdown` waits for what runs and then takes no more."""
    pool = Executor(address)
    future = pool.submit(time.sleep, 0.3)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        pool.submit(int)
    assert future.result(20) is None
    pool.shutdown()
    pool.shutdown()
