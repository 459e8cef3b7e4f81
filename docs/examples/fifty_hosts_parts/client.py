"""A client in a process of its own: says when all workers are there, and have run a task.

Run by the Python of the system that is measured, which need not have anything else.
"""

from __future__ import annotations

import os
import sys

#: seconds until all workers must be there
START_S = 300.0


def main() -> None:
    """Wait for an address on standard input, and then for so many workers there."""
    system, count = sys.argv[1], int(sys.argv[2])
    if system == "dask":
        from distributed import Client
    else:
        from twisted_dist import Client
    print("imported", flush=True)
    address = sys.stdin.readline().strip()
    with Client(address, timeout=START_S) as client:
        client.wait_for_workers(count, START_S)
        print("registered", flush=True)
        workers = list(client.nthreads())
        ran = [client.submit(os.getpid, key=each, workers=[each]) for each in workers]
        assert len(set(client.gather(ran))) == count
        print("ran", flush=True)
        sys.stdin.readline()
    # what it would do at its end is not what is measured
    os._exit(0)


if __name__ == "__main__":
    main()
