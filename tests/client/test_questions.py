"""`client.questions`: each has an answer, in time, or a reason why not."""

from __future__ import annotations

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from twisted_dist.client.questions import ANSWER_S, Questions
from twisted_dist.errors import ConnectionClosedError
from twisted_dist.wire import schema


class Site:
    """Questions, what was sent of them, and what came too late."""

    def __init__(self):
        self.clock = Clock()
        self.sent = []
        self.late = []
        self.questions = Questions(self.clock, "here:1", self.sent.append)

    def ask(self, message=schema.ASK, *fields):
        """One whose late answer is taken."""
        fields = fields or ("queue-get", "q", b"", [], 0, 30.0)
        asking = self.questions.ask(message, *fields, late=self.late.append)
        return defer.Deferred.fromCoroutine(asking)


@pytest.fixture
def site():
    """A site of one's own."""
    return Site()


def failure(deferred):
    """What it has failed with."""
    found = []
    deferred.addErrback(found.append)
    (reason,) = found
    return reason.value


def test_answer(site):
    """It is given to who has asked."""
    waiting = site.ask()
    site.questions.answered(1, "yes")
    told = []
    waiting.addCallback(told.append)
    assert (told, site.late) == (["yes"], [])


def test_late_answer(site):
    """What nobody waits for any more is taken by who was named for that."""
    waiting = site.ask()
    site.clock.advance(ANSWER_S + 1)
    assert isinstance(failure(waiting), ConnectionClosedError)
    site.questions.answered(1, "yes")
    assert site.late == ["yes"]


def test_answer_of_the_next_scheduler(site):
    """What had not been sent when the scheduler went is done by the next, too late for us."""
    waiting = site.ask()
    site.questions.ask_again(site.sent.append)
    assert "unknown" in str(failure(waiting))
    site.questions.answered(1, ["7", b"item"])
    assert site.late == [["7", b"item"]]
    site.questions.answered(1, ["7", b"item"])
    assert len(site.late) == 1


def test_nothing_is_kept_for_ever(site):
    """Who takes late answers is let go when a scheduler begins anew once more."""
    failure_of = site.ask()
    site.questions.ask_again(site.sent.append)
    failure(failure_of)
    site.questions.ask_again(site.sent.append)
    site.questions.answered(1, "yes")
    assert not site.late


def test_end_after_a_scheduler_has_begun_anew(site):
    """Each is told once, whatever comes after."""
    before = site.ask()
    site.questions.ask_again(site.sent.append)
    after = site.ask()
    site.questions.fail_all("closed")
    assert "unknown" in str(failure(before))
    assert str(failure(after)) == "closed"


def test_harmless_ones_are_asked_again(site):
    """What changes nothing is sent again, and answered."""
    waiting = site.ask(schema.QUERY, "nthreads", None)
    again = []
    site.questions.ask_again(again.append)
    assert again == site.sent
    site.questions.answered(1, {})
    told = []
    waiting.addCallback(told.append)
    assert told == [{}]
