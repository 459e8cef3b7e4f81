"""A workload of several times a worker's memory limit: is it right, and what does it take?

    python docs/examples/spilling.py --limit 512MiB --times 4 --svg docs/spilling.svg

Starts a scheduler and one worker on this machine, makes arrays of 32 MiB that are all kept, and
uses each once more. Meanwhile the memory of the worker's processes is sampled: what is their
own, and what values take that they share, which is what the limit is about.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from twisted_dist import Client
from twisted_dist.services.memory import memory_limit

MIB = 2**20
ARRAY_BYTES = 32 * MIB
SAMPLE_S = 0.05
WIDTH, HEIGHT, MARGIN = 640, 240, 48


def make(number: int) -> bytearray:
    """A task: one array, every byte of it its own."""
    return bytearray([number % 251]) * ARRAY_BYTES


def look(array: bytearray) -> tuple[int, int, int]:
    """A task: is it what it was?"""
    return len(array), array[0], array[-1]


def shared_bytes(processes: list[psutil.Process]) -> int:
    """Bytes of the nameless files in memory that processes have open, each counted once."""
    files = {}
    for process in processes:
        directory = f"/proc/{process.pid}/fd"
        with suppress(OSError):
            for descriptor in os.listdir(directory):
                with suppress(OSError):
                    path = f"{directory}/{descriptor}"
                    if os.readlink(path).startswith("/memfd:twisted_dist"):
                        about = os.stat(path)
                        files[about.st_ino] = about.st_blocks * 512
    return sum(files.values())


def own_bytes(processes: list[psutil.Process]) -> int:
    """Bytes of memory that are the processes' own."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            about = process.memory_info()
            total += about.rss - about.shared
    return total


class Sampler(threading.Thread):
    """Looks at a worker's processes until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.stopping = threading.Event()
        self.samples: list[tuple[float, int, int]] = []

    def run(self) -> None:
        """Sample."""
        began = time.monotonic()
        while not self.stopping.wait(SAMPLE_S):
            processes = [self._process, *self._process.children(recursive=True)]
            now = time.monotonic() - began
            self.samples.append((now, own_bytes(processes), shared_bytes(processes)))


def plot(samples: list[tuple[float, int, int]], limit: int) -> str:
    """The samples as SVG: own memory, and above it what is shared; the limit as a line."""
    end = samples[-1][0]
    top = limit * 1.1

    def at(when: float, nbytes: float) -> str:
        x = MARGIN + (WIDTH - MARGIN - 8) * when / end
        y = HEIGHT - MARGIN / 2 - (HEIGHT - MARGIN) * nbytes / top
        return f"{x:.1f},{y:.1f}"

    def area(upper: list[tuple[float, int]], color: str) -> str:
        points = " ".join([at(0, 0), *(at(*each) for each in upper), at(end, 0)])
        return f'<polygon points="{points}" fill="{color}"/>'

    def line(nbytes: int, name: str, dash: str) -> str:
        start, stop = at(0, nbytes).split(","), at(end, nbytes).split(",")
        return (
            f'<line x1="{start[0]}" y1="{start[1]}" x2="{stop[0]}" y2="{stop[1]}" stroke="#444" '
            f'stroke-dasharray="{dash}"/><text x="2" y="{float(start[1]) + 4:.0f}">{name}</text>'
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        area([(when, own + shared) for when, own, shared in samples], "#9cc3e6"),
        area([(when, own) for when, own, _ in samples], "#3f7fb5"),
        line(limit, "limit", "4 2"),
        line(int(limit * 0.8), "80%", "1 3"),
        line(int(limit * 0.6), "60%", "1 3"),
        f'<text x="{MARGIN}" y="{HEIGHT - 6}">0 s</text>',
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 6}" text-anchor="end">{end:.1f} s</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        "dark: the processes' own memory; light: values that they share</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def network(limit: str, directory: str, home: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler and a worker."""
    port = "18787"
    programs = Path(sys.executable).parent
    env = {**os.environ, "TWISTED_DIST_HOME": home}
    quiet = {"env": env, "stdout": subprocess.DEVNULL}
    host = ["--host", "127.0.0.1"]
    yield subprocess.Popen([programs / "dscheduler", *host, "--port", port], **quiet)  # type: ignore[call-overload]
    options = [f"127.0.0.1:{port}", *host, "--nthreads", "2", "--memory-limit", limit]
    options += ["--local-directory", directory]
    yield subprocess.Popen([programs / "dworker", *options], **quiet)  # type: ignore[call-overload]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", default="512MiB", help="the worker's --memory-limit")
    parser.add_argument("--times", type=int, default=4, help="how many times that is kept")
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="on which disk")
    parser.add_argument("--svg", help="where to draw what was sampled")
    options = parser.parse_args()
    limit = memory_limit(options.limit, 1)
    with tempfile.TemporaryDirectory() as home:
        os.environ["TWISTED_DIST_HOME"] = home
        processes = list(network(options.limit, options.directory, home))
        client = Client("127.0.0.1:18787", timeout=30)
        client.wait_for_workers(1, timeout=30)
        sampler = Sampler(processes[1].pid)
        sampler.start()
        count = options.times * limit // ARRAY_BYTES
        began = time.monotonic()
        arrays = client.map(make, range(count))
        for _ in range(2):
            for number, told in enumerate(client.gather(client.map(look, arrays, pure=False))):
                assert told == (ARRAY_BYTES, number % 251, number % 251), (number, told)
        took = time.monotonic() - began
        sampler.stopping.set()
        sampler.join()
        client.shutdown()
        for each in processes:
            each.wait(30)
    most = max(own + shared for _, own, shared in sampler.samples)
    print(f"{count} arrays of {ARRAY_BYTES // MIB} MiB, each used twice, in {took:.1f} s")
    print(f"limit {limit // MIB} MiB; at most {most // MIB} MiB in {len(sampler.samples)} samples")
    if options.svg:
        Path(options.svg).write_text(plot(sampler.samples, limit), encoding="utf-8")


if __name__ == "__main__":
    main()
