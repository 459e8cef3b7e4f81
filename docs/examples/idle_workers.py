"""What workers cost a scheduler that have nothing to do: its processor, memory and descriptors.

::

    python docs/examples/idle_workers.py --workers 500 --seconds 60

Starts a scheduler as users do, and workers (`Worker`, which runs tasks in threads) in a few
processes, each with a connection of its own, by TLS. When all have registered and it has become
quiet, the scheduler's process is measured for a while. In the end each worker runs a task.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

MIB = 2**20
HOST = "127.0.0.1"
#: seconds for the workers to register, and for all to become quiet
START_S = 300.0
QUIET_S = 10.0


def host(address: str, first: int, count: int) -> None:
    """So many workers in this process, until standard input closes."""
    from twisted.internet import defer, reactor, stdio, task
    from twisted.internet.protocol import Protocol

    from twisted_dist import Worker

    class Until(Protocol):
        def connectionLost(self, reason=None) -> None:
            ended = defer.gatherResults([each.stop() for each in workers])
            ended.addBoth(lambda _: reactor.stop())

    names = [f"idle-{number}" for number in range(first, first + count)]
    workers = [Worker(address, name=name, host=HOST, nthreads=1) for name in names]

    async def start() -> None:
        for each in workers:
            await each.start()
            await task.deferLater(reactor, 0.01)  # heartbeats are not to come together
        print("ready", flush=True)
        stdio.StandardIO(Until())

    defer.Deferred.fromCoroutine(start()).addErrback(
        lambda failure: (failure.printTraceback(), os._exit(1))
    )
    reactor.run()


def look(process: psutil.Process) -> tuple[int, int]:
    """Bytes of memory, and descriptors."""
    return process.memory_info().rss, process.num_fds()


def measure(process: psutil.Process, seconds: float) -> float:
    """Percent of a core that a process uses."""
    began = time.monotonic()
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return 100 * max(0.0, used) / (time.monotonic() - began)


def pid(_: int) -> int:
    """A task."""
    return os.getpid()


@contextlib.contextmanager
def idle(options: argparse.Namespace) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes with the workers, for a while."""
    share = -(-options.workers // options.processes)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    hosts = []
    for first in range(0, options.workers, share):
        count = min(share, options.workers - first)
        own = ["--port", str(options.port), "--host", str(first), str(count)]
        hosts.append(subprocess.Popen([sys.executable, __file__, *own], **pipes))
    for each in hosts:
        assert each.stdout.readline() == b"ready\n"
    yield hosts
    for each in hosts:
        each.stdin.close()
        each.stdout.close()
        assert each.wait(60) == 0


def run(options: argparse.Namespace, process: psutil.Process) -> None:
    """Measure a scheduler's process without workers, and with them."""
    from twisted_dist import Client

    address = f"{HOST}:{options.port}"
    with Client(address, timeout=30) as client:
        client.submit(abs, 1)
    time.sleep(QUIET_S / 2)
    memory, files = look(process)
    used = measure(process, QUIET_S)
    print(f"0 workers: {memory / MIB:.1f} MiB, {files} descriptors, {used:.2f}% of a core")
    began = time.monotonic()
    with idle(options) as hosts:
        took = time.monotonic() - began
        time.sleep(QUIET_S)
        memory_then, files_then = look(process)
        used = measure(process, options.seconds)
        print(
            f"{options.workers} workers, after {took:.0f} s: {memory_then / MIB:.1f} MiB, "
            f"{files_then} descriptors, {used:.2f}% of a core in {options.seconds:.0f} s"
        )
        print(
            f"for each: {(memory_then - memory) / options.workers / 1024:.1f} KiB, "
            f"{(files_then - files) / options.workers:.2f} descriptors, "
            f"{used / 100 / options.workers * 1e6:.1f} µs of processor each second"
        )
        with Client(address, timeout=30) as client:
            client.wait_for_workers(options.workers, START_S)
            info = client.nthreads()
            ran = [client.submit(pid, n, workers=[each]) for n, each in enumerate(info)]
            assert set(client.gather(ran)) == {each.pid for each in hosts}
            print(f"a task has run on each of {len(info)}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=18890)
    parser.add_argument("--host", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        host(f"{HOST}:{options.port}", *options.host)
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["TWISTED_DIST_HOME"] = home
        program = Path(sys.executable).parent / "dscheduler"
        command = [program, "--host", HOST, "--port", str(options.port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        scheduler = subprocess.Popen(command, **quiet)
        run(options, psutil.Process(scheduler.pid))
        scheduler.terminate()
        assert scheduler.wait(30) == 0


if __name__ == "__main__":
    main()
