"""`Outcome`: told once, to all."""

from twisted_dist.launchers.ssh.outcome import Outcome


def test_before_and_after():
    """Who waits and who comes later are told the same, once."""
    outcome = Outcome()
    told = []
    outcome.when_known().addCallback(told.append)
    assert not outcome.is_known
    outcome.tell(1)
    outcome.tell(2)
    outcome.when_known().addCallback(told.append)
    assert outcome.is_known
    assert told == [1, 1]


def test_cancelling():
    """Who does not wait any more takes it from nobody, whenever they say so."""
    outcome = Outcome()
    told = []
    first, second, third = (outcome.when_known() for _ in range(3))
    first.addErrback(lambda failure: None)
    first.cancel()
    third.addErrback(lambda failure: told.append("cancelled"))

    def take_from_third(value):
        told.append(value)
        third.cancel()

    second.addCallback(take_from_third)
    outcome.tell("it")
    assert told == ["it", "cancelled"]
