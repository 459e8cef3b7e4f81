"""What a future must become: `Right` answers, and the `Promise` that each future makes."""

from __future__ import annotations

from twisted.internet import defer, task

from tests.support.simtasks import Oops
from twisted_dist.errors import ConnectError, ConnectionClosedError

#: what no value is
NOTHING = object()
#: seconds until a result that could not be fetched is asked for again
PATIENCE_S = 1.0


class Right:
    """How a task may end.

    Attributes:
        value: its result; `NOTHING` where it cannot have one.
        raises: what it may raise of its own, by the words of `Oops`.
        excuses: errors of the system that its options or its fate explain; grows when it is
            cancelled, for instance.
        needs: the answers that are its inputs, whose failures become its own.
        turns_s: seconds for which it may use a thread that others wait for, all attempts taken
            together; 0 for what is soon over.
    """

    def __init__(self, value, raises=(), excuses=(), needs=(), turns_s=0.0):
        self.value = value
        self.raises = frozenset(raises)
        self.excuses = set(excuses)
        self.needs = list(needs)
        self.turns_s = turns_s

    @classmethod
    def of(cls, function, *needs, excuses=()):
        """Of a task that calls *function* with the values of other answers."""
        values = [each.value for each in needs]
        lacks = any(each is NOTHING for each in values)
        value = NOTHING if lacks else function(*values)
        return cls(value, excuses=excuses, needs=needs)

    def sources(self):
        """Itself and all that it needs, each once."""
        seen = {self: None}
        stack = [self]
        while stack:
            for each in stack.pop().needs:
                if each not in seen:
                    seen[each] = None
                    stack.append(each)
        return seen

    def objection(self, outcome, excuses):
        """What is wrong with an outcome, a value or an exception; None if it is right."""
        if not isinstance(outcome, Exception):
            if self.value is NOTHING:
                return f"has a value, {outcome!r:.80}, and cannot have one"
            same = type(outcome) is type(self.value) and outcome == self.value
            return None if same else f"is {outcome!r:.80}, not {self.value!r:.80}"
        sources = self.sources()
        if isinstance(outcome, Oops):
            ours = any(str(outcome) in each.raises for each in sources)
            return None if ours else f"raised {outcome!r}, which is not its own"
        allowed = excuses.union(*(each.excuses for each in sources))
        if isinstance(outcome, tuple(allowed)):
            return None
        return f"failed without an excuse: {type(outcome).__name__}: {outcome}"


class Verdict(Right):
    """Of what says itself whether it is right: None, or what is wrong."""

    def __init__(self, excuses=()):
        super().__init__(None, excuses=excuses)

    def objection(self, outcome, excuses):
        """As of `Right`."""
        return super().objection(outcome, excuses) if isinstance(outcome, Exception) else outcome


class Promise:
    """A future, or another Deferred's answer, and what is right for it.

    Args:
        load: the client's.
        right: what it must become.
        what: it is, for messages.
        future: None for another answer.

    Attributes:
        asked: how often its future's result was asked for: then it cannot be released.
        told: all that it was found to be: values and exceptions.
        ends: how often its future called back.
    """

    def __init__(self, load, right, what, future=None):
        self.load = load
        self.right = right
        self.what = what
        self.future = future
        self.asked = 0
        self.told = []
        self.ends = 0

    def _count(self, _future):
        self.ends += 1

    def ask(self):
        """Wait for the future's result; once more if it was asked for already."""
        if not self.asked:
            self.future.add_done_callback(self._count)
        self.asked += 1
        self.hear(defer.Deferred.fromCoroutine(self._result()))

    async def _result(self):
        while True:
            try:
                return await self.future.result()
            except (ConnectError, ConnectionClosedError):
                # a finished one's value could not be had: it is somewhere, and can be later
                if self.load.gone or self.future.status != "finished":
                    raise
            await task.deferLater(self.load.host.net.clock, PATIENCE_S)

    def hear(self, deferred):
        """Note what a Deferred fires with."""
        deferred.addCallbacks(self.told.append, lambda failure: self.told.append(failure.value))

    def is_told(self):
        """Whether everything asked was answered."""
        return len(self.told) >= (1 if self.future is None else self.asked)

    def objection(self, excuses):
        """What is wrong with it in the end; None if nothing is."""
        if not self.is_told():
            return "has not ended"
        if self.future is not None and not self.asked:
            return None
        if self.future is not None and (self.ends != 1 or self.future.status == "pending"):
            return f"ended {self.ends} times and is {self.future.status}"
        for outcome in self.told:
            wrong = self.right.objection(outcome, excuses)
            if wrong is not None:
                return wrong
        first = self.told[0]
        if any(type(each) is not type(first) for each in self.told):
            return f"ended as {first!r:.80}, and then otherwise: {self.told[1:]!r:.80}"
        return None
