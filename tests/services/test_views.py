"""What the views make of names, and what they know."""

import pytest

from tests.support.registering import silent_scheduler
from tests.support.stimuli import DIGEST, submitted
from twisted_dist.aliases import CLIENT_SHIFT
from twisted_dist.core import stimuli as s
from twisted_dist.services.views import prefix_of

CLIENT = 2


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("inc-3f00000001", "inc"),
        ("data-10000000000", "data"),
        ("hello-world-1", "hello-world"),
        ("<lambda>-16d7", "<lambda>"),
        ("('x-2', 0)", "x"),
        ("('sum', 3, 1)", "sum"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_prefix(key, prefix):
    """`prefix_of` leaves out what only numbers a key."""
    assert prefix_of(key) == prefix


def test_what_was_taken_in_is_known():
    """`Scheduler.query` knows of results that came in the turn that is not over yet."""
    core = (scheduler := silent_scheduler()).core
    task_id = CLIENT << CLIENT_SHIFT
    for fact in (
        s.WorkerJoined(1, "h:1", "w", 1),
        s.ClientJoined(CLIENT, "c"),
        s.FunctionDefined(CLIENT, DIGEST, "f", b"x"),
        submitted(CLIENT, task_id),
    ):
        core.handle(fact, 0.0)
    assert scheduler.query("explain", [task_id, ""])["state"] == "processing"
    core.take(s.TasksFinished(1, [task_id], [1], [8], [100], [None]), 0.0)
    assert scheduler.query("explain", [task_id, ""])["state"] == "memory"
