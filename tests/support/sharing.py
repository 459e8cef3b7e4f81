"""For tests of shared memory: what this process has open, and copies of it."""

import contextlib
import gc
import os
import pickle
import signal
import warnings

from twisted_dist.segments.probe import tidy

#: seconds until a copy that hangs is ended
MOST_S = 20


def descriptors():
    """``{descriptor: what it is of}`` of this process."""
    found = {}
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[int(each)] = os.readlink(f"/proc/self/fd/{each}")
    return found


@contextlib.contextmanager
def nothing_left_open():
    """Fails where more is open afterwards than before, once what is kept for later is let go."""
    gc.collect()  # what earlier tests have left is not to end in between
    tidy()
    before = descriptors()
    yield
    gc.collect()
    tidy()
    assert descriptors() == before


@contextlib.contextmanager
def copy(function=None):
    """A copy of this process, there until the end; gives its id and what *function* gave there.

    *function* runs in the copy at its start, with nothing but what the copy has.
    """
    asking, told = os.pipe()
    waiting, end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(MOST_S)
            os.close(end)
            result = function() if function is not None else None
            os.write(told, pickle.dumps(result))
            os.close(told)
            os.read(waiting, 1)
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    os.close(waiting)
    with os.fdopen(asking, "rb") as answer:
        given = answer.read()
    try:
        assert given, "the copy failed"
        yield pid, pickle.loads(given)
    finally:
        os.close(end)
        os.waitpid(pid, 0)
