"""A worker's uploads: got piece by piece, and tasks that wait for them."""

from __future__ import annotations

import pytest
from twisted.internet import defer

from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.upload_rules import digest_of
from twisted_dist.services.receiver import Receiver
from twisted_dist.wire import schema

TO_SCHEDULER = (schema.UPLOAD_WANTED.number, schema.UPLOADED.number)


class Executor:
    """One that notes what it is to do."""

    def __init__(self):
        self.did = []
        self.adding = None
        self.tell = lambda fact: self.did.append(("told", list(fact.ids)))

    def add_upload(self, name, digest, blob):
        """Until told otherwise, it takes a while."""
        self.did.append(("add", name, blob))
        self.adding = defer.Deferred()
        return self.adding

    def forget_uploads(self):
        """As every executor's."""
        self.did.append("forget")

    def run(self, tasks, values):
        """As every executor's."""
        self.did.append(("run", [(each.id, [values[d] for d in each.deps]) for each in tasks]))

    def drop(self, ids):
        """As every executor's."""

    def stop_tasks(self, ids, attempts):
        """As every executor's."""


class Worker:
    """A receiver between an executor and a scheduler."""

    def __init__(self):
        self.executor = Executor()
        self.current = {}
        self.said = []
        self.receiver = Receiver(
            self.executor, self._say, lambda task: self.current.get(task.id) is task
        )

    def _say(self, payload):
        number, fields = schema.decode(payload, TO_SCHEDULER)
        self.said.append((schema.BY_NUMBER[number].name, *fields.values()))

    def done(self):
        """What the executor was told since the last time."""
        did, self.executor.did = self.executor.did, []
        return did

    def heard(self):
        """What the scheduler was told since the last time."""
        said, self.said = self.said, []
        return said

    def list(self, *uploads):
        """The scheduler says what there is: ``(number, name, bytes)``."""
        fields = {
            "numbers": [each[0] for each in uploads],
            "names": [each[1] for each in uploads],
            "digests": [digest_of(each[2]) for each in uploads],
            "sizes": [len(each[2]) for each in uploads],
        }
        self.receiver.received(schema.UPLOADS.number, fields)

    def piece(self, number, offset, blob):
        """The scheduler sends a piece."""
        fields = {"number": number, "offset": offset, "blob": blob}
        self.receiver.received(schema.UPLOAD_PIECE.number, fields)

    def give(self, task_id, deps=()):
        """The scheduler gives a task."""
        task = m.WorkerTask(task_id, 1, b"f", b"", deps, False)
        self.current[task_id] = task
        self.receiver.run([task], {each: f"value {each}" for each in deps})


@pytest.fixture
def worker():
    """One that has nothing."""
    return Worker()


def test_a_task_waits(worker):
    """`Receiver` runs a task when what was listed before is there, with its inputs."""
    worker.give(1)
    assert worker.done() == [("run", [(1, [])])]
    worker.list((1, "a.py", b"abc"), (2, "b.py", b""))
    worker.give(2, deps=[7])
    assert worker.heard() == [("upload-wanted", 1, 0)]
    worker.piece(1, 0, b"ab")
    assert worker.heard() == [("upload-wanted", 1, 2)]
    worker.piece(1, 2, b"c")
    assert worker.done() == [("add", "a.py", b"abc")]
    worker.executor.adding.callback("")
    assert worker.heard() == [("uploaded", 1, ""), ("upload-wanted", 2, 0)]
    worker.piece(2, 0, b"")
    worker.give(3)
    assert worker.done() == [("add", "b.py", b"")]
    worker.executor.adding.callback("no space left")
    assert worker.heard() == [("uploaded", 2, "no space left")]
    assert worker.done() == [("run", [(2, ["value 7"]), (3, [])])]
    worker.give(4)
    assert worker.done() == [("run", [(4, [])])]


def test_what_is_here_is_not_asked_for(worker):
    """`Receiver` confirms what it has without getting it, where its number is new."""
    worker.list((1, "a.py", b"a"))
    worker.piece(1, 0, b"a")
    worker.executor.adding.callback("")
    worker.heard()
    worker.list((1, "a.py", b"a"))
    assert worker.heard() == []
    worker.list((5, "a.py", b"a"))
    assert worker.heard() == [("uploaded", 5, "")]
    worker.give(1)
    assert worker.done() == [("add", "a.py", b"a"), ("run", [(1, [])])]


def test_what_is_replaced_meanwhile(worker):
    """`Receiver` leaves what is not listed any more, and gets what is."""
    worker.list((1, "a.py", b"old"))
    worker.give(1)
    worker.list((2, "a.py", b"new"))
    worker.piece(1, 0, b"old")
    assert worker.heard() == [("upload-wanted", 1, 0), ("upload-wanted", 2, 0)]
    worker.piece(2, 0, b"new")
    worker.list((3, "a.py", b"newer"))  # while the executor takes the one before
    worker.executor.adding.callback("")
    assert worker.heard() == [("uploaded", 2, ""), ("upload-wanted", 3, 0)]
    worker.piece(3, 0, b"newer")
    worker.executor.adding.callback("")
    assert worker.done() == [
        ("add", "a.py", b"new"),
        ("add", "a.py", b"newer"),
        ("run", [(1, [])]),
    ]


def test_what_came_damaged(worker):
    """`Receiver` gives its executor nothing but what has the digest."""
    worker.list((1, "a.py", b"abc"))
    worker.piece(1, 0, b"abd")
    assert worker.heard()[-1] == ("uploaded", 1, "it came damaged")
    worker.list((2, "a.py", b"abc"))
    worker.piece(2, 0, b"")  # no more
    assert worker.heard()[-1] == ("uploaded", 2, "it came damaged")
    assert worker.done() == []


def test_tasks_that_are_taken_back(worker):
    """`Receiver` gives held tasks back, and runs none that are not wanted any more."""
    worker.list((1, "a.py", b"a"))
    for each in range(1, 5):
        worker.give(each)
    worker.receiver.drop([1, 9])
    worker.receiver.stop_tasks([2], [1])
    assert worker.done() == [("told", [1]), ("told", [2])]
    del worker.current[3]  # as when the executor's process has died
    worker.piece(1, 0, b"a")
    worker.executor.adding.callback("")
    assert worker.done() == [("add", "a.py", b"a"), ("run", [(4, [])])]


def test_the_scheduler_goes(worker):
    """`Receiver.forget` leaves nothing of what a scheduler has said, and serves another."""
    worker.list((1, "a.py", b"a"), (2, "b.py", b"b"))
    worker.piece(1, 0, b"a")
    worker.give(1)
    worker.receiver.forget()  # while the executor takes it
    worker.executor.adding.callback("")
    worker.receiver.forget()
    assert worker.done() == [("add", "a.py", b"a"), "forget"]
    worker.heard()
    worker.list((1, "c.py", b"c"))
    worker.piece(1, 0, b"c")
    worker.executor.adding.callback("")
    assert worker.heard() == [("upload-wanted", 1, 0), ("uploaded", 1, "")]
    worker.give(2)
    assert worker.done() == [("add", "c.py", b"c"), ("run", [(2, [])])]
