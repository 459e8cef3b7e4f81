"""The timer that wakes a child's main thread: one contract, for each way to have it."""

import threading
import time

import pytest

from twisted_dist.execution.alarm import ConditionAlarm, TimerAlarm

pytestmark = pytest.mark.slow

DELAY_S = 0.1


@pytest.fixture(params=[TimerAlarm, ConditionAlarm])
def alarm(request):
    """One, with a thread that counts in `alarm.times` when it goes off."""
    one = request.param(DELAY_S)
    one.times = []

    def count():
        while True:
            one.wait()
            one.times.append(time.monotonic())

    threading.Thread(target=count, daemon=True).start()
    return one


def gone_off(alarm, count):
    """Whether it has gone off so often, given time."""
    deadline = time.monotonic() + 10
    while len(alarm.times) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(alarm.times) == count


def test_goes_off_once_after_its_delay(alarm):
    """`Alarm.set` makes `wait` return once, not before its delay, counted from the last `set`."""
    for times in (1, 2):
        for _ in range(3):
            set_at = time.monotonic()
            alarm.set()
        assert gone_off(alarm, times)
        assert alarm.times[-1] - set_at >= DELAY_S * 0.9
        time.sleep(2 * DELAY_S)
        assert len(alarm.times) == times
