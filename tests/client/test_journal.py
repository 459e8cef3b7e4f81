"""`client.journal`: what a client tells a scheduler that knows nothing of it, and keeps."""

from __future__ import annotations

import gc
import operator
import tracemalloc

import pytest

from twisted_dist.client.future import CANCELLED, FINISHED, LOST, BaseFuture, Record
from twisted_dist.client.graphs import GraphReader
from twisted_dist.client.journal import NO_HOLDER, Data, Journal
from twisted_dist.client.outbox import Outbox
from twisted_dist.client.records import Records
from twisted_dist.client.submitting import Submitter
from twisted_dist.wire import schema

INDEX = 3
FIRST = INDEX << 40


class Site:
    """What a client has of its session to submit with; what was sent is `told`."""

    def __init__(self):
        self.outbox = Outbox()
        self.records = Records(None)
        self.journal = Journal(self.records)
        self.journal.drop = self.drop
        self.released = []
        self.submitter = Submitter(
            self.outbox, self.records, self._send, self.drop, self.journal, lambda: None
        )
        self.submitter.index = INDEX
        self.told = []

    def _send(self):
        self.told += self.outbox.take()

    def drop(self, task_id):
        """A future is gone."""
        if self.journal.forget(task_id):
            self.released.append(task_id)

    def map(self, count, *args):
        """Submit so many tasks; their futures."""
        calls = [((n, *args), {}) for n in range(count)]
        records = self.submitter.submit(operator.add, calls, {})
        return [BaseFuture(self, each) for each in records]

    def submit(self, *args):
        """Submit a task; its future."""
        (record,) = self.submitter.submit(operator.add, [(args, {})], {})
        return BaseFuture(self, record)

    def scatter(self, is_there=True):
        """Data of this client's; its future."""
        task_id = self.submitter.take_ids(1)
        record = Record(task_id, "data")
        record.origin = Data(task_id, 8, is_there=is_there)
        self.records.add(record)
        return BaseFuture(self, record)

    def done(self, *futures):
        """Tasks have results."""
        ids = [each._record.id for each in futures]
        self.records.finished(ids, [8] * len(ids), [None] * len(ids))

    def story(self):
        """As `retell`, without functions, and where nobody is an orphan."""
        messages, orphans = self.retell()
        assert not orphans
        return [each for each in messages if each[0] != "FUNCTION"]

    def retell(self):
        """What is told: ``[(message's name, fields), …]``; and orphans."""
        payloads, orphans = self.journal.retell()
        names = {
            getattr(schema, name).number: name
            for name in ("FUNCTION", "SUBMIT", "RELEASE", "SCATTERED", "RUNAWAYS", "CANCEL")
        }
        decoded = [schema.decode(each, frozenset(names)) for each in payloads]
        return [(names[number], fields) for number, fields in decoded], orphans


@pytest.fixture
def site():
    """One in which nothing has happened yet."""
    return Site()


def kinds(messages):
    """Which there are, in order."""
    return [name for name, _ in messages]


def submitted(messages):
    """The ids that are submitted."""
    return [
        n
        for name, fields in messages
        if name == "SUBMIT"
        for n in range(fields["first"], fields["first"] + len(fields["calls"]))
    ]


def ids_of(messages, kind):
    """The ids in all messages of one kind."""
    return [n for name, fields in messages if name == kind for n in fields["ids"]]


def ids(futures):
    """Theirs."""
    return [each._record.id for each in futures]


def test_nothing_to_tell(site):
    """`Journal.retell` of a client that has no futures says nothing."""
    assert site.story() == []


def test_the_same_again(site):
    """`Journal.retell` says what was sent, byte by byte: functions, and then tasks in order."""
    futures = [*site.map(3, 1), site.submit(1, 2), *site.map(2, 5)]
    payloads, orphans = site.journal.retell()
    assert payloads == site.told
    assert not orphans
    assert submitted(site.retell()[0]) == ids(futures)


def test_what_was_not_sent_yet(site):
    """`Journal.retell` leaves out what is still in the outbox, and will be sent from there."""
    site.map(1)
    waiting = site.outbox
    site._send = lambda: None
    site.submitter._wake = site._send
    futures = site.map(2, 1)
    assert not submitted(site.retell()[0])
    assert waiting.take()
    assert submitted(site.retell()[0]) == ids(futures)


def test_finished_ones(site):
    """`Journal.retell` tells of tasks that have ended as well: their results are to be kept."""
    futures = site.map(3, 1)
    site.done(*futures)
    assert submitted(site.retell()[0]) == ids(futures)


def test_released_ones(site):
    """`Journal.retell` releases of a batch what has no future any more."""
    futures = site.map(4, 1)
    del futures[1:3]
    messages, _ = site.retell()
    assert submitted(messages) == [FIRST + n for n in range(4)]
    assert ids_of(messages, "RELEASE") == [FIRST + 1, FIRST + 2]
    assert kinds(messages)[-1] == "RELEASE"
    futures.clear()
    assert site.story() == []


def test_failed_ones(site):
    """`Journal.retell` does not have run again what has failed."""
    futures = site.map(2, 1)
    site.records.erred(futures[0]._record.id, LOST, ("lost", b"", ""))
    messages, orphans = site.retell()
    assert ids_of(messages, "RELEASE") == ids(futures[:1])
    assert not orphans


def test_lineage(site):
    """`Journal.retell` tells of what a task needs, though nobody has a future of that."""
    one = site.submit(1, 2)
    two = site.submit(one, 1)
    three = site.submit(two, 1)
    last = ids([one, two, three])
    del one, two
    messages, _ = site.retell()
    assert submitted(messages) == last
    assert ids_of(messages, "RELEASE") == last[:2]
    del three
    assert site.story() == []


def test_lineage_is_let_go(site):
    """A batch is kept by records and by what needs it, and by nothing else."""
    one = site.submit(1, 2)
    two = site.submit(one, 1)
    needed = one._record.origin
    assert two._record.origin.needs == {needed}
    del one
    assert gc.get_referrers(needed)
    del two
    gc.collect()
    assert [each for each in gc.get_referrers(needed) if isinstance(each, set)] == []


def test_diamonds(site):
    """`Journal.retell` tells each batch once, what is needed before what needs it."""
    base = site.map(2, 1)
    left = site.submit(base[0], 1)
    right = site.submit(base[1], 2)
    top = site.submit(left, right)
    everything = ids([*base, left, right, top])
    del base, left, right
    assert submitted(site.retell()[0]) == everything


def test_long_chains(site):
    """`Journal.retell` follows chains of any length, without recursion."""
    future = site.submit(0, 1)
    for _ in range(3000):
        future = site.submit(future, 1)
    assert len(submitted(site.retell()[0])) == 3001


def test_graphs(site):
    """`Journal.retell` tells graphs whole, with what is wanted of them."""
    graph = GraphReader({"a": (operator.neg, 1), "b": (operator.neg, "a")}).read("b")
    (record,) = site.submitter.submit_graph(graph, {}, [])
    future = BaseFuture(site, record)
    messages, _ = site.retell()
    (fields,) = [fields for name, fields in messages if name == "SUBMIT"]
    assert (len(fields["calls"]), fields["wanted"]) == (2, [1])
    assert not ids_of(messages, "RELEASE")
    del future
    assert site.story() == []


def test_functions(site):
    """`Journal.retell` defines all functions, each once, first: they are not defined again."""
    gone = site.map(1)
    site.submitter.submit(operator.mul, [((1, 2), {})], {})
    kept = BaseFuture(site, site.submitter.submit(operator.sub, [((1, 2), {})], {})[0])
    more = BaseFuture(site, site.submitter.submit(operator.sub, [((3, 2), {})], {})[0])
    for each in site.records.all():
        if each.id not in ids([kept, more]):
            site.records.forget(each.id)
    del gone
    messages, _ = site.retell()
    assert kinds(messages) == ["FUNCTION"] * 3 + ["SUBMIT", "SUBMIT"]
    assert [fields["name"] for _, fields in messages[:3]] == ["add", "mul", "sub"]


def test_data(site):
    """`Journal.retell` tells of scattered data before tasks, and of no holder."""
    data, unused = site.scatter(), site.scatter()
    task = site.submit(data, 1)
    unused.release()
    (data_id,) = ids([data])
    del data
    messages, _ = site.retell()
    assert kinds(messages) == ["FUNCTION", "SCATTERED", "SUBMIT", "RELEASE"]
    (fields,) = [fields for name, fields in messages if name == "SCATTERED"]
    assert fields == {"ids": [data_id], "nbytes": [8], "holder": NO_HOLDER}
    assert ids_of(messages, "RELEASE") == [data_id]
    assert task.status == "pending"


def test_data_on_its_way(site):
    """`Journal.retell` does not tell of data that no worker has yet: it would be lost."""
    data = site.scatter(is_there=False)
    assert site.retell() == ([], [])
    data._record.origin.is_there = True
    assert kinds(site.retell()[0]) == ["SCATTERED"]


def test_runaways(site):
    """`Journal.retell` names tasks that run whoever holds futures, until they have ended."""
    future, done = site.map(2, 1)
    site.journal.let_run(ids([future, done]))
    site.done(done)
    messages, _ = site.retell()
    assert ids_of(messages, "RUNAWAYS") == ids([future])
    (task_id,) = ids([future])
    del future
    messages, _ = site.retell()
    assert task_id in submitted(messages)
    assert ids_of(messages, "RUNAWAYS") == [task_id]
    assert task_id not in ids_of(messages, "RELEASE")  # it is owed, to learn when it has ended


def test_runaways_that_have_ended(site):
    """A task that has run to its end is kept no longer, though its future had gone before."""
    future = site.submit(1, 2)
    site.journal.let_run(ids([future]))
    (task_id,) = ids([future])
    del future
    assert not site.released
    site.records.finished([task_id], [8], [None])
    assert site.released == [task_id]
    assert site.story() == []


def test_cancelled(site):
    """`Journal.retell` cancels once more what was cancelled and has not ended."""
    futures = site.map(3, 1)
    site.journal.cancel(ids(futures[:2]))
    site.records.erred(futures[0]._record.id, CANCELLED, ("cancelled", b"", ""))
    messages, _ = site.retell()
    assert ids_of(messages, "CANCEL") == ids(futures[1:2])
    assert kinds(messages)[-1] == "CANCEL"


def test_orphans(site):
    """`Journal.retell` names futures that others have submitted, and whose values are not here."""
    own = site.map(1, 1)
    lent, here = Record(7, "lent"), Record(8, "here")
    here.value, here.status = b"value", FINISHED
    for each in (lent, here):
        site.records.adopt(each)
    messages, orphans = site.retell()
    assert orphans == [7]
    assert submitted(messages) == ids(own)


def test_memory_of_a_map(site):
    """What is kept to tell of 100,000 tasks is what was sent, and little more."""
    count = 100_000
    site.submitter._wake = site.outbox.take
    site.submit(1, 2)
    gc.collect()
    tracemalloc.start()
    try:
        records = site.submitter.submit(operator.add, (((n, 1), {}) for n in range(count)), {})
        sent = sum(
            len(payload)
            for origin in {each.origin for each in records}
            for payload in origin.payloads
        )
        with_origins, _ = tracemalloc.get_traced_memory()
        for each in records:
            each.origin = None
        gc.collect()
        without, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent > 20 * count
    assert sent <= with_origins - without < 1.02 * sent + 20_000
