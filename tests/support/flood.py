"""A client that submits as fast as it can; for tests that stop it, or its scheduler.

``python -m tests.support.flood ADDRESS TASKS SIZE MOST_PENDING MOST_UNSENT``: says how many
results were right and the most memory that was used, as JSON.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading

from twisted_dist import Client
from twisted_dist.client import flow

AT_ONCE = 5000


def work(number, call):
    """A task."""
    return number, call


def main(address, tasks, size, most_pending, most_unsent):
    """Submit in one thread, and take results in another, in order."""
    flow.MOST_PENDING, flow.MOST_UNSENT = most_pending, most_unsent
    sent: queue.SimpleQueue = queue.SimpleQueue()
    right = most = 0
    call = os.urandom(size)
    with Client(address, 20, insecure=True) as client:
        client.submit(work, 0, b"").result(60)

        def submit():
            for start in range(0, tasks, AT_ONCE):
                numbers = range(start, min(tasks, start + AT_ONCE))
                sent.put((numbers, client.map(work, numbers, [call] * len(numbers))))
            sent.put(None)

        threading.Thread(target=submit, daemon=True).start()
        while (part := sent.get()) is not None:
            numbers, futures = part
            most = max(most, client.session._count_pending())
            right += sum(each == (n, call) for n, each in zip(numbers, client.gather(futures)))
            if part[0].start == 0:
                print("flows", flush=True)
            del part, futures
        most_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"right": right, "pending": most, "mib": most_kib >> 10}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
