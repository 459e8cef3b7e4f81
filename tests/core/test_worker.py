"""The worker's machine: whatever happens, each task given ends in exactly one report."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twisted_dist.aliases import ATTEMPTS_A_GENERATION, HERE
from twisted_dist.core.worker_side import messages as m
from twisted_dist.core.worker_side.machine import INLINE_BYTES, WorkerCore

DIGEST = b"d" * 16
PEERS = ("h:1", "h:2")


def given_tasks(*tasks, sources=(), wanted=True):
    """Tasks ``(id, attempt, deps)`` in one run."""
    ids, attempts, deps = map(list, zip(*tasks))
    calls = [b"call"] * len(ids)
    return m.TasksGiven([[DIGEST, ids, attempts, calls, deps, wanted]], list(sources))


def finished(*pairs, value=b"v", nbytes=1):
    """Results of ``(id, attempt)``."""
    ids, attempts = map(list, zip(*pairs))
    n = len(ids)
    return m.ExecutionFinished(ids, attempts, [value] * n, [nbytes] * n, [5] * n)


def test_inputs_are_fetched_once():
    """Two tasks that need one value lead to one `Fetch`, and run when it is here."""
    core = WorkerCore()
    out = core.handle(given_tasks((1, 1, [9]), (2, 1, [9]), sources=[("h:1", [9])]))
    assert out == [m.Fetch("h:1", [9])]
    copies, execute = core.handle(m.FetchFinished("h:1", [9], [3], []))
    assert copies == m.ReportCopies([9])
    assert [task.id for task in execute.tasks] == [1, 2]


def test_small_wanted_values_ride_along():
    """`ReportDone` carries a value that a client wants, if it is one small pickle."""
    for wanted, value, nbytes, rides in (
        (True, b"v", 1, True),
        (True, b"v", INLINE_BYTES + 1, False),
        (True, [b"v", b"buffer"], 1, False),
        (False, b"v", 1, False),
    ):
        core = WorkerCore()
        core.handle(given_tasks((1, 1, []), wanted=wanted))
        _keep, report = core.handle(finished((1, 1), value=value, nbytes=nbytes))
        assert report.values == [value if rides else None]


def test_absent_input_is_told():
    """A peer that has not what it should sends the task back, with the peer's address."""
    core = WorkerCore()
    core.handle(given_tasks((1, 4, [9]), sources=[("h:1", [9])]))
    assert core.handle(m.FetchFinished("h:1", [], [], [9])) == [
        m.ReportMissing([1], [4], [9], ["h:1"])
    ]
    assert not core.tasks


def test_input_of_unknown_whereabouts():
    """An input that the scheduler thinks is here, and is not, sends the task back."""
    out = WorkerCore().handle(given_tasks((1, 1, [9])))
    assert out == [m.ReportMissing([1], [1], [9], [HERE])]


def test_generation():
    """`WorkerCore.generation` is the newest of tasks and of results; copies are of none."""
    core = WorkerCore()
    assert core.generation == 0
    core.handle(m.DataPut([8], [3]))
    core.handle(given_tasks((1, 2 * ATTEMPTS_A_GENERATION + 1, [])))
    assert core.generation == 2
    core.handle(given_tasks((2, 3 * ATTEMPTS_A_GENERATION + 7, [])))
    core.handle(finished((2, 3 * ATTEMPTS_A_GENERATION + 7)))
    assert core.generation == 3
    core.reset()
    assert core.generation == 0


def test_death_of_the_executor():
    """What was running was killed; what was not is returned; what waits for input stays."""
    core = WorkerCore()
    core.handle(given_tasks((1, 1, []), (2, 1, []), (3, 1, [9]), sources=[("h:1", [9])]))
    assert core.handle(m.ExecutorDied([1], "signal 9")) == [
        m.ReportKilled([1], [1], ["signal 9"]),
        m.ReportReturned([2], [1]),
    ]
    assert list(core.tasks) == [3]


def test_tasks_that_are_to_stop():
    """What runs is stopped, what waits for inputs is returned, another attempt is left alone."""
    core = WorkerCore()
    core.handle(given_tasks((1, 1, []), (2, 1, [9]), (3, 2, []), sources=[("h:1", [9])]))
    assert core.handle(m.StopRequested([1, 2, 3, 4], [1, 1, 1, 1])) == [
        m.StopExecution([1], [1]),
        m.ReportReturned([2], [1]),
    ]
    assert core.handle(m.ExecutionStopped([1, 2], [1, 1], ["here", "there"])) == [
        m.ReportStopped([1], [1], ["here"])
    ]
    assert list(core.tasks) == [3]


class Worker(RuleBasedStateMachine):
    """Random orders of what a scheduler, an executor and peers may say."""

    def __init__(self):
        super().__init__()
        self.core = WorkerCore()
        self.attempt = 0
        #: {(id, attempt): reports so far}
        self.given = {}
        self.executing = set()
        self.fetching = []
        self.stored = set()

    def tell(self, stimulus):
        """Give a stimulus, and do what the machine says."""
        for each in self.core.handle(stimulus):
            if isinstance(each, m.Execute):
                for task in each.tasks:
                    assert all(dep in self.stored for dep in task.deps)
                self.executing |= {(task.id, task.attempt) for task in each.tasks}
            elif isinstance(each, m.Fetch):
                assert not {i for _, ids in self.fetching for i in ids} & set(each.ids)
                self.fetching.append((each.address, each.ids))
            elif isinstance(each, m.Keep):
                self.stored |= set(each.ids)
            elif isinstance(each, m.Discard):
                self.stored -= set(each.ids)
            elif isinstance(each, m.DropExecution | m.StopExecution):
                pass
            elif not isinstance(each, m.ReportCopies):
                for key in zip(each.ids, each.attempts):
                    self.given[key] += 1
                    self.executing.discard(key)

    @rule(ids=st.sets(st.integers(1, 8), min_size=1), deps=st.sets(st.integers(20, 24)))
    def give(self, ids, deps):
        """The scheduler gives tasks that it has not given, or that have ended."""
        self.attempt += 1
        tasks = [(i, self.attempt, sorted(deps)) for i in ids if i not in self.core.tasks]
        if tasks:
            self.given.update({(i, attempt): 0 for i, attempt, _ in tasks})
            elsewhere = sorted(deps - self.stored)
            sources = [("h:1", elsewhere[::2]), ("h:2", elsewhere[1::2])]
            self.tell(given_tasks(*tasks, sources=sources))

    @precondition(lambda self: self.fetching)
    @rule(data=st.data())
    def fetched(self, data):
        """A fetch ends, with some of what was asked for."""
        address, ids = self.fetching.pop(data.draw(st.integers(0, len(self.fetching) - 1)))
        here = data.draw(st.sets(st.sampled_from(ids)))
        self.stored |= here
        absent = [each for each in ids if each not in here]
        self.tell(m.FetchFinished(address, sorted(here), [1] * len(here), absent))

    @precondition(lambda self: self.executing)
    @rule(data=st.data(), how=st.sampled_from(["finished", "erred", "stopped", "returned"]))
    def executed(self, data, how):
        """The executor has done with a task, in one of four ways."""
        key = data.draw(st.sampled_from(sorted(self.executing)))
        if how == "finished":
            self.tell(finished(key))
        elif how == "erred":
            self.tell(m.ExecutionErred([key[0]], [key[1]], [b""], ["text"]))
        elif how == "stopped":
            self.tell(m.ExecutionStopped([key[0]], [key[1]], ["text"]))
        else:
            self.tell(m.ExecutionReturned([key[0]]))
        assert key not in self.executing

    @rule(late=st.tuples(st.integers(1, 8), st.integers(1, 9)))
    def late(self, late):
        """The executor speaks of an attempt that nobody waits for."""
        if late not in self.executing:
            self.tell(finished(late))

    @rule(running=st.sets(st.integers(1, 8)))
    def died(self, running):
        """The executor's process dies."""
        self.tell(m.ExecutorDied(sorted(running), "signal 9"))
        assert not self.executing

    @rule(which=st.sets(st.tuples(st.integers(1, 24), st.integers(1, 9)), min_size=1))
    def asked_to_stop(self, which):
        """The scheduler wants attempts to end."""
        self.tell(m.StopRequested(*zip(*sorted(which))))

    @rule(ids=st.sets(st.integers(1, 24)))
    def dropped(self, ids):
        """The scheduler wants tasks not to run."""
        self.tell(m.DropRequested(sorted(ids)))

    @invariant()
    def reported_once(self):
        """`WorkerCore` reports each attempt once, and not before it has ended."""
        open_tasks = {(task.id, task.attempt) for task in self.core.tasks.values()}
        for key, reports in self.given.items():
            assert reports == (key not in open_tasks)
        assert self.executing <= open_tasks

    @invariant()
    def holds_what_is_stored(self):
        """`WorkerCore.held` is what the store holds."""
        assert set(self.core.held) == self.stored


Worker.TestCase.settings = settings(max_examples=100, deadline=None)
TestWorker = Worker.TestCase
