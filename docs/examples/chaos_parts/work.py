"""What the client does meanwhile: futures in a few shapes, each of which is looked at."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos_parts import tasks
from chaos_parts.site import Site
from chaos_parts.systems import RETRIES

ROUND = 1000
CHAIN = 10
LEAVES, FAN = 750, 4
#: rounds that are under way at the same time
AT_ONCE = 2
#: seconds in which what goes wrong with a round's futures is to show
SHOW_S = 30.0
#: seconds that a value may take to come whose task has ended
VALUE_S = 5.0


class Round:
    """About a thousand futures of one shape, and what each should become.

    Attributes:
        futures: all of them.
        expected: their values.
    """

    def __init__(self, client: Any, tally: str, first: int, task_s: float) -> None:
        self._client = client
        self._tally = tally
        self._numbers = iter(range(first, first + 2 * ROUND))
        self._first = first
        self._task_s = task_s
        self.futures: list[Any] = []
        self.expected: list[Any] = []

    def _submit(self, function: Any, expected: Any, *args: Any) -> Any:
        before = (self._tally, next(self._numbers), self._task_s)
        future = self._client.submit(function, *before, *args, retries=RETRIES, pure=False)
        self.futures.append(future)
        self.expected.append(expected)
        return future

    def map(self) -> None:
        """Tasks of nothing but themselves."""
        numbers = range(self._first, self._first + ROUND)
        each = ([self._tally] * ROUND, numbers, [self._task_s] * ROUND, numbers)
        self.futures += self._client.map(tasks.plus_one, *each, retries=RETRIES, pure=False)
        self.expected += range(self._first + 1, self._first + 1 + ROUND)

    def chains(self) -> None:
        """Tasks that need the one before."""
        for start in range(ROUND // CHAIN):
            last: Any = start
            for length in range(1, CHAIN + 1):
                last = self._submit(tasks.plus_one, start + length, last)

    def reduction(self) -> None:
        """A tree of sums."""
        level = [self._submit(tasks.plus_one, n + 1, n) for n in range(LEAVES)]
        values = list(range(1, LEAVES + 1))
        while len(level) > 1:
            groups = [level[n : n + FAN] for n in range(0, len(level), FAN)]
            values = [sum(values[n : n + FAN]) for n in range(0, len(values), FAN)]
            level = [self._submit(tasks.add, right, g) for g, right in zip(groups, values)]

    def larger(self) -> None:
        """Results that workers keep, and fetch from each other."""
        for _ in range(ROUND // 2):
            number = self._first + len(self.futures)
            made = self._submit(tasks.large, number.to_bytes(8, "big") * (tasks.LARGE // 8))
            self._submit(tasks.look, number, made)


SHAPES = (Round.map, Round.chains, Round.reduction, Round.larger)


class Work:
    """Rounds at an even pace, in threads of their own.

    Args:
        site: with the client.
        tally: the file of traces.
        futures: how many there are to be, about.
        seconds: how long it is to take.
        task_s: what each task takes.
        hang_s: seconds after which a future of a round that has not ended is said to hang.

    Attributes:
        told: how many futures were right, wrong, failed or hang.
        problems: ``{exception's name: [times, what the first said]}``.
    """

    def __init__(
        self,
        site: Site,
        tally: Path,
        futures: int,
        seconds: float,
        task_s: float,
        hang_s: float,
    ) -> None:
        self._site = site
        self._tally = str(tally)
        self._rounds = max(1, futures // ROUND)
        self._seconds = seconds
        self._task_s = task_s
        self._hang_s = hang_s
        self._next: Iterator[int] = iter(range(self._rounds))
        self._lock = threading.Lock()
        self.told: Counter[str] = Counter()
        self.problems: dict[str, list[Any]] = {}
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(AT_ONCE)]
        self._began = 0.0
        self.took_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for each in self._threads:
            each.start()

    def is_done(self) -> bool:
        """Whether all rounds are over."""
        return not any(each.is_alive() for each in self._threads)

    def _run(self) -> None:
        while True:
            with self._lock:
                number = next(self._next, None)
            if number is None:
                self.took_s = time.monotonic() - self._began
                return
            due = self._began + self._seconds * number / self._rounds
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                told = self._one(number)
            except Exception as problem:  # the client is of no use
                told = Counter({"failed": ROUND})
                self._note(problem)
                time.sleep(0.5)
            with self._lock:
                self.told += told

    def _note(self, problem: Exception) -> None:
        with self._lock:
            kind = type(problem).__name__
            example = " ".join(str(problem).split())[:100]
            self.problems.setdefault(kind, [0, example])[0] += 1

    def _one(self, number: int) -> Counter[str]:
        """Do a round; what became of its futures."""
        client = self._site.client()
        it = Round(client, self._tally, number * 2 * ROUND, self._task_s)
        try:
            SHAPES[number % len(SHAPES)](it)
            self._site.system.wait(it.futures, self._hang_s)
            values = client.gather(it.futures)
        except Exception as problem:
            self._note(problem)
            told = self._autopsy(it)
            if told["failed"]:
                self._site.give_up(client)
            return told
        right = sum(value == good for value, good in zip(values, it.expected))
        return Counter({"right": right, "wrong": len(values) - right})

    def _autopsy(self, it: Round) -> Counter[str]:
        """Look at each future of a round of which some failed."""
        told: Counter[str] = Counter()
        deadline = time.monotonic() + SHOW_S
        while any(each.status == "pending" for each in it.futures) and time.monotonic() < deadline:
            time.sleep(0.1)
        for future, expected in zip(it.futures, it.expected):
            if future.status == "pending":
                told["hung"] += 1
                continue
            try:
                told["right" if future.result(timeout=VALUE_S) == expected else "wrong"] += 1
            except Exception as problem:
                told["failed"] += 1
                self._note(problem)
        told["failed"] += max(0, ROUND - len(it.futures))  # could not be submitted at all
        return +told
