"""`explain`, in every state and for every reason, and the story that it tells."""

import pytest

from tests.core.test_coordination import A, Desk, submit
from tests.core.test_policies import FIRST, finish
from tests.support.stimuli import submitted
from twisted_dist.core import stimuli as s
from twisted_dist.core.explain import MOST_ENTRIES, explain, find
from twisted_dist.core.story import MOST_IDS, Story

GPU = (("GPU", 10_000),)


@pytest.fixture
def desk():
    """Three clients, and a worker of one thread."""
    return Desk()


def told(desk, number=0):
    """The explanation of a task of client A's, which must be plain data."""
    state = desk.core.state
    return explain(state, find(state, FIRST + number))


def events(desk, number=0):
    """What has happened to a task."""
    return [what for _, what, _ in told(desk, number)["story"]]


def test_processing(desk):
    """`explain` says who has a task, since when, and which come before it there."""
    desk.tell(submitted(A, FIRST, 2))
    desk.now += 2.0
    desk.tell(s.Heartbeat(1, {}))
    about = told(desk)
    assert (about["state"], about["attempts"], about["workers"]) == ("processing", 1, ["h:1"])
    assert about["why"].startswith("w (h:1) has had it for 2.0")
    assert about["function"] == "f"
    assert about["expected_s"] is None
    assert "1 tasks were given to that worker before it" in told(desk, 1)["why"]


def test_silent_worker(desk):
    """`explain` says that nothing is heard of the worker that has a task."""
    desk.tell(submitted(A, FIRST))
    assert "nothing was heard" not in told(desk)["why"]
    desk.now += 20.0
    desk.tell(s.KeysReleased(A, []))
    assert "nothing was heard of that worker for 20 s" in told(desk)["why"]


def test_task_that_waits_for_its_own(desk):
    """`explain` says that a task waits for tasks that it has submitted."""
    desk.tell(submitted(A, FIRST))
    desk.tell(s.TasksSeceded(1, [FIRST], [1], True))
    assert told(desk)["why"].endswith("it waits for tasks that it has submitted itself")
    desk.tell(s.TasksSeceded(1, [FIRST], [1], False))
    assert "submitted itself" not in told(desk)["why"]


def test_no_worker_registered(desk):
    """`explain` tells that nobody is there from that nobody has room."""
    desk.tell(s.WorkerLost(1, "gone"))
    desk.tell(submitted(A, FIRST))
    desk.tell(submitted(A, FIRST + 1, workers=("w",)))
    assert told(desk)["why"] == "0 tasks come before it, and no worker is registered"
    assert told(desk, 1)["why"] == "it asks for workers=['w'], and no worker is registered"
    assert told(desk, 1)["state"] == "no-worker"


def test_resources(desk):
    """`explain` says which resources are free where, and how many others want them."""
    desk.tell(s.WorkerJoined(2, "h:2", "gpu", 4, {"GPU": 10_000}))
    desk.tell(submitted(A, FIRST, 3, resources=GPU))
    assert told(desk)["state"] == "processing"
    assert told(desk, 2)["why"] == (
        "it asks for resources GPU=1; 1 tasks that do so come before it, and "
        "gpu (h:2) has GPU=0 free"
    )


def test_named_workers_are_busy(desk):
    """`explain` counts the threads of the workers that a task asks for."""
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    desk.tell(submitted(A, FIRST, 9, workers=("two",)))
    assert "all 1 threads of 1 workers have enough to do" in told(desk, 8)["why"]


def test_inputs_elsewhere(desk):
    """`explain` says that a task waits for the worker that has its inputs."""
    desk.tell(submitted(A, FIRST, 1))
    finish(desk, 1, FIRST, nbytes=10**9, seconds=1.0)
    desk.tell(submitted(A, FIRST + 1, 1))
    desk.tell(submitted(A, FIRST + 2, 2, deps=[[FIRST], [FIRST]]))
    assert told(desk, 3)["state"] == "queued"
    assert told(desk, 3)["why"] == (
        "its inputs are on w (h:1), where 1 tasks are and 1 wait before it; "
        "moving them would take longer"
    )


def test_chain(desk):
    """`explain` finds what a chain waits for in the end, however long, and names a few."""
    desk.tell(s.WorkerJoined(2, "h:2", "gpu", 1, {"GPU": 10_000}))
    deps = [[]] + [[FIRST + n] for n in range(4999)]
    desk.core.handle(submitted(A, FIRST, 5000, deps=deps), desk.now)
    desk.core.handle(submitted(A, FIRST + 5000, 5, resources=GPU), desk.now)
    needs = [[FIRST + n for n in (500, 5001, 5002, 5003, 5004)]]
    desk.tell(submitted(A, FIRST + 5005, 1, deps=needs))
    why = told(desk, 900)["why"]
    assert "waits for 1 of its 1 inputs" in why
    assert "has had it" in why
    assert len(told(desk, 4999)["why"]) < 1000
    why = told(desk, 5005)["why"]
    assert why.startswith("it waits for 5 of its 5 inputs: ")
    assert " and 2 more. " in why


def test_done_and_released(desk):
    """`explain` says who holds a result, and that nobody needs one that is lost."""
    desk.tell(submitted(A, FIRST))
    desk.tell(s.TasksFinished(1, [FIRST], [1], [8], [5000], [b"v"]))
    for worker in range(2, 6):
        desk.tell(s.WorkerJoined(worker, f"h:{worker}", f"w{worker}", 1))
    desk.ask(A, "replicate", ids=[FIRST], number=5)
    for worker in range(2, 6):
        desk.tell(s.ReplicasAdded(worker, [FIRST]))
    about = told(desk)
    assert about["why"].endswith("w (h:1), w2 (h:2), w3 (h:3) and 2 more")
    assert len(about["workers"]) == 5
    assert about["expected_s"] == pytest.approx(0.005)
    for worker in range(1, 6):
        desk.tell(s.WorkerLost(worker, "gone"))
    assert (told(desk)["state"], told(desk)["workers"]) == ("released", [])
    assert told(desk)["why"] == "nobody needs it at the moment"


def test_failures_are_counted(desk):
    """`explain` counts attempts by how they ended, and quotes the last line of an error."""
    desk.tell(submitted(A, FIRST, retries=1))
    desk.tell(s.TasksErred(1, [FIRST], [1], [b"e"], ["Traceback\nValueError: one"]))
    desk.tell(s.TasksKilled(1, [FIRST], [2], ["SIGKILL"]))
    desk.tell(s.WorkerLost(1, "gone"))
    desk.tell(s.WorkerJoined(2, "h:2", "two", 1))
    desk.tell(s.TasksErred(2, [FIRST], [4], [b"e"], ["Traceback\nValueError: two\n"]))
    about = told(desk)
    assert [about[each] for each in ("attempts", "raised", "lost", "killed")] == [4, 2, 1, 1]
    assert about["why"] == "it has failed (raised): ValueError: two"
    assert events(desk) == [
        "was submitted",
        *("was given", "raised"),
        *("was given", "killed"),
        *("was given", "lost its worker"),
        *("was given", "raised"),
    ]


def test_story_of_a_busy_life(desk):
    """`explain` tells the last things that happened, the oldest first, in seconds ago."""
    desk.tell(submitted(A, FIRST))
    for attempt in range(1, 100):
        desk.now += 1.0
        desk.tell(s.TasksReturned(1, [FIRST], [attempt]))
    story = told(desk)["story"]
    assert len(story) == MOST_ENTRIES
    assert [each[0] for each in story] == sorted((each[0] for each in story), reverse=True)
    assert story[-1] == [0, "was given", "w (h:1)"]


def test_names(desk):
    """`find` knows a task by its id, by the user's name and by the name it was given."""
    desk.tell(submitted(A, FIRST, key="mine"))
    task_id = submit(desk, A, 1)
    state = desk.core.state
    assert find(state, "mine") is state.tasks[FIRST]
    assert find(state, f"f-{task_id:x}") is state.tasks[task_id]
    assert find(state, "nothing") is None
    assert find(state, task_id + 1) is None


def test_story_of_the_scheduler_is_bounded(desk):
    """`Story` holds `MOST_IDS` ids at most, whatever happens."""
    for n in range(6):
        first = FIRST + n * 50_000
        ids = range(first, first + 50_000)
        desk.core.handle(submitted(A, first, len(ids)), desk.now)
        desk.core.handle(s.CancelRequested(A, list(ids)), desk.now)
        desk.core.handle(s.KeysReleased(A, list(ids)), desk.now)
    desk.tell(s.Heartbeat(1, {}))
    story = desk.core.state.story
    assert not list(story.of(FIRST + 10_000))
    held = [each.ids for each in story._many if type(each.ids) is not range]
    assert sum(map(len, held)) == story._ids <= MOST_IDS


def test_story_keeps_the_last_however_large():
    """`Story` remembers what happened last even where that is more than it holds."""
    story = Story(most_ids=10)
    story.note(1.0, "was", [1] * 100, "")
    story.note(2.0, "was", list(range(100)), "")
    assert [entry.now for entry in story.of(1)] == [2.0]
    story.note(3.0, "was", [1] * 100, "")
    assert [entry.now for entry in story.of(1)] == [3.0]
