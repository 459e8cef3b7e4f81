"""A scheduler's machine goes, and comes back: what its users have begun goes on."""

import signal
import socket
import time

import pytest

from tests.support.daemons import PATIENCE_S
from twisted_dist import Client, get_client

pytestmark = pytest.mark.slow


def slow_sum(n):
    """Submits tasks that take longer than the scheduler is gone."""
    client = get_client()
    return sum(client.gather(client.map(_after, range(n))))


def _after(number):
    time.sleep(1.0)
    return number


def uploaded():
    """What a module says that was uploaded."""
    import upl_restart

    return upl_restart.VALUE


@pytest.fixture
def scheduler(start):
    """Starts one, always on the same port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def begin():
        daemon = start("dscheduler", "--host", "127.0.0.1", "--port", port)
        return daemon, daemon.address("^Start scheduler at")

    return begin


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
def test_all_goes_on(start, scheduler, tmp_path, how):
    """Tasks, the tasks that they have submitted, and uploads survive a scheduler."""
    first, address = scheduler()
    start("dworker", address, "--nthreads", "2", "--name", "a").line("^Registered")
    (tmp_path / "upl_restart.py").write_text("VALUE = 7\n")
    with Client(address) as client:
        client.upload_file(tmp_path / "upl_restart.py")
        future = client.submit(slow_sum, 8)
        time.sleep(1.5)
        first.process.send_signal(how)
        assert first.wait() == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        time.sleep(1.0)
        _, again = scheduler()
        assert again == address
        assert future.result(PATIENCE_S) == 28
        start("dworker", address, "--name", "b").line("^Registered")
        assert client.submit(uploaded, workers="b").result(PATIENCE_S) == 7
