"""`Lending`: values between a nanny and its child, each where the other finds it."""

import gc
import os

import pytest

from tests.support.sharing import copy, nothing_left_open
from twisted_dist.core.worker_side import messages as m
from twisted_dist.execution.payloads import load_value
from twisted_dist.segments.files import CAN_SHARE
from twisted_dist.segments.pool import POOL
from twisted_dist.segments.probe import can_read, lend_probe
from twisted_dist.segments.segment import Segment, new_tag
from twisted_dist.services import lending as lendings
from twisted_dist.services.lending import Lending, runs_of

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
DATA = b"x" * 100_000


@pytest.fixture
def lending():
    """With a child that is this process itself."""
    made = Lending(os.getpid())
    made.is_on = True
    return made


def work(task_id, *deps, digest=b"f"):
    """A task."""
    return m.WorkerTask(task_id, 1, digest, b"call", deps, False)


def test_offer(lending):
    """`Lending.offer` says where to read to a child whose memory is read here, and to no other."""
    probe = lend_probe().place()
    ours = lending.offer(probe)
    assert can_read(os.getpid(), ours)
    assert lending.offer(None) is None
    assert lending.offer([*probe[:2], new_tag(), probe[3]]) is None
    with copy() as (pid, _):
        assert Lending(pid).offer(probe) is not None
    assert Lending(pid).offer(probe) is None


def test_nothing_to_offer(lending, monkeypatch):
    """`Lending.offer` offers nothing where this process cannot share."""
    monkeypatch.setattr(lendings, "lend_probe", lambda: None)
    assert lending.offer(lend_probe().place()) is None


def test_inputs(lending):
    """`Lending.input_of` gives a place for what is shared, if the child reads it; else bytes."""
    segment = POOL.write([b"pickle", DATA])
    assert lending.input_of(work(1), b"small") == b"small"
    assert lending.input_of(work(1), [b"a", b"b"]) == [b"a", b"b"]
    assert lending.input_of(work(1), segment) == segment.place()
    lending.is_on = False
    assert lending.input_of(work(2), segment) == [b"pickle", DATA]


def test_open_until_the_task_has_left(lending):
    """What a task was given stays open until it has left, whoever else lets go of it."""
    with nothing_left_open():
        segment = POOL.write([DATA])
        place = lending.input_of(work(1), segment)
        lending.input_of(work(2), segment)
        del segment
        others = [POOL.write([DATA]) for _ in range(3)]
        assert lendings.opened(os.getpid(), place).buffers() == [DATA]
        lending.take_back([1, 3])
        others.append(POOL.write([DATA]))
        assert lendings.opened(os.getpid(), place).buffers() == [DATA]
        lending.take_back([2])
        others.append(POOL.write([b"y" * len(DATA)]))
        with pytest.raises(OSError, match="by now"):
            lendings.opened(os.getpid(), place)
        del others


def test_results(lending):
    """`Lending.open_results` opens what was placed, and says which descriptors are done with."""
    shared = [POOL.write([b"pickle", DATA]), POOL.write([DATA])]
    values = [b"small", shared[0].place(), [b"a", b"b"], shared[1].place()]
    descriptors, lost = lending.open_results([1, 2, 3, 4], values)
    assert descriptors == [each.file.fd for each in shared]
    assert lost == []
    del shared
    gc.collect()
    assert values[0] == b"small"
    assert values[2] == [b"a", b"b"]
    assert isinstance(values[1], Segment)
    assert values[1].buffers() == [b"pickle", DATA]
    assert values[3].buffers() == [DATA]


def test_lost_results(lending):
    """`Lending.open_results` says which are not where the child has put them."""
    shared = POOL.write([DATA])
    place = shared.place()
    broken = [*place[:2], new_tag(), place[3]]
    values = [broken, place, [10**9, *place[1:]]]
    descriptors, lost = lending.open_results([7, 8, 9], values)
    assert descriptors == [place[0], place[0], 10**9]
    assert lost == [7, 9]
    assert values[1].buffers() == [DATA]


def test_runs(lending):
    """`runs_of` sends each input once, by its place, in runs of tasks of one function."""
    segment = POOL.write([DATA])
    values = {10: segment, 11: b"eleven"}
    first, other = b"f", b"g"
    tasks = [work(1, 10, digest=first), work(2, 10, 11, digest=first), work(3, digest=first)]
    tasks.append(work(4, 11, digest=other))
    _, runs, inputs = runs_of(tasks, values, lending)
    assert inputs == {10: segment.place(), 11: b"eleven"}
    assert [(run[0], run[1], run[4]) for run in runs] == [
        (first, [1, 2], [(10,), (10, 11)]),
        (first, [3], []),
        (other, [4], [(11,)]),
    ]
    lending.take_back([1])
    assert list(lending._lent) == [2]


def test_values_of_a_child():
    """A value that another process has placed is loaded here from there."""
    kept = []

    def make():
        from twisted_dist.execution.payloads import dump_value

        kept.append(dump_value([DATA, "and more"], share=True))
        return kept[0].place()

    with copy(make) as (pid, place):
        values = [place]
        assert Lending(pid).open_results([1], values) == ([place[0]], [])
    assert load_value(values[0]) == [DATA, "and more"]
    values = [place]
    assert Lending(pid).open_results([1], values) == ([place[0]], [1])
