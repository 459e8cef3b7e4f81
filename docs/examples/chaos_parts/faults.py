"""Faults drawn from a seed, done to what runs, and how long it takes until all is well again."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from chaos_parts import tasks
from chaos_parts.site import Place, Site, is_alive

#: seconds that a scheduler is away, and that other faults last
DOWN_S = (0.5, 3.0)
LASTS_S = (0.2, 5.0)
#: seconds between a probe's looks, and between questions about who is there
LOOK_S = 0.01
ASK_S = 0.1
#: seconds after which a client that nothing can be asked by is given up: by the work, if it
#: has lost futures, at once
PATIENCE_S = 20.0
#: more than any task of the work has
PRIORITY = 1_000_000
PROBE = 4711


@dataclass
class Fault:
    """One fault, drawn.

    Attributes:
        kind: a key of `KINDS`.
        target: drawn; which of the places it is for is this modulo their number.
        lasts_s: seconds, where its kind lasts.
        at: the time, as of the traces, at which it began.
        recovered_s: seconds from its end until all worked again; None: not within the bound.
        family: what a killed process had started.
        outlived: how many of those still lived when all worked again.
    """

    kind: str
    target: int
    lasts_s: float
    at: float = 0.0
    recovered_s: float | None = None
    family: list[psutil.Process] = field(default_factory=list)
    outlived: int = 0


def _kill(site: Site, place: Place, fault: Fault) -> None:
    fault.family = place.family()[1:]
    place.process.kill()


def _kill_child(site: Site, place: Place, fault: Fault) -> None:
    for each in place.family()[1:]:
        each.kill()


def _kill_scheduler(site: Site, place: Place, fault: Fault) -> None:
    place.process.kill()
    place.process.wait()
    time.sleep(fault.lasts_s)
    site.start_scheduler()


def _stop(site: Site, place: Place, fault: Fault) -> None:
    family = place.family()
    for each in family:
        each.send_signal(signal.SIGSTOP)
    time.sleep(fault.lasts_s)
    for each in reversed(family):
        each.send_signal(signal.SIGCONT)


def _reset(site: Site, place: Place, fault: Fault) -> None:
    site.order(place, "reset")


def _hold(what: str) -> Callable[[Site, Place, Fault], None]:
    def act(site: Site, place: Place, fault: Fault) -> None:
        site.order(place, what)
        time.sleep(fault.lasts_s)
        site.order(place, "heal")

    return act


@dataclass(frozen=True)
class Kind:
    """A kind of fault: to what, for how long, and what is done.

    Attributes:
        places: of a site, those it may be done to.
        lasts_s: from and to so many seconds; None: it is a moment.
        act: does it, and undoes it.
    """

    places: Callable[[Site], list[Place]]
    lasts_s: tuple[float, float] | None
    act: Callable[[Site, Place, Fault], None]


def _workers(site: Site) -> list[Place]:
    return site.workers


def _scheduler(site: Site) -> list[Place]:
    return [site.scheduler]


def _links(site: Site) -> list[Place]:
    return [*site.workers, site.client_link]


KINDS = {
    "kill-worker": Kind(_workers, None, _kill),
    "kill-child": Kind(_workers, None, _kill_child),
    "kill-scheduler": Kind(_scheduler, DOWN_S, _kill_scheduler),
    "stop-worker": Kind(_workers, LASTS_S, _stop),
    "stop-scheduler": Kind(_scheduler, LASTS_S, _stop),
    "reset-link": Kind(_links, None, _reset),
    "stall-link": Kind(_links, LASTS_S, _hold("stall")),
    "blackhole-link": Kind(_links, LASTS_S, _hold("blackhole")),
}


class Chaos:
    """Does faults, one every *gap_s* seconds or when the one before is over.

    Args:
        site: to what.
        kinds: names of `KINDS`.
        seed: of what is drawn.
        gap_s: from and to so many seconds between two.
        apart: whether the next waits until all is well again.
        bound_s: seconds after which a fault is said not to have been recovered from.
    """

    def __init__(
        self,
        site: Site,
        kinds: list[str],
        seed: int,
        gap_s: tuple[float, float],
        apart: bool,
        bound_s: float,
    ) -> None:
        self._site = site
        self._kinds = kinds
        self._chance = random.Random(seed)
        self._gap_s = gap_s
        self._apart = apart
        self._bound_s = bound_s
        self.faults: list[Fault] = []
        self._acting: list[threading.Thread] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """No more faults; wait until what was broken is whole, or cannot be."""
        self._over.set()
        deadline = time.monotonic() + self._bound_s + max(LASTS_S)
        self._thread.join(self._bound_s + max(LASTS_S))
        for each in self._acting:
            each.join(max(0.0, deadline - time.monotonic()))

    def _draw(self) -> tuple[float, Fault]:
        """The wait before the next fault, and that: the same numbers are drawn for any kind."""
        gap_s = self._chance.uniform(*self._gap_s)
        kind = self._chance.choice(self._kinds)
        target = self._chance.randrange(1000)
        share = self._chance.random()
        low, high = KINDS[kind].lasts_s or (0.0, 0.0)
        return gap_s, Fault(kind, target, low + share * (high - low))

    def _run(self) -> None:
        while True:
            gap_s, fault = self._draw()
            if self._over.wait(gap_s):
                return
            place = self._claim(fault)
            if place is None:
                continue  # all that it could be done to has a fault already
            self.faults.append(fault)
            acting = threading.Thread(target=self._act, args=(fault, place), daemon=True)
            self._acting.append(acting)
            acting.start()
            if self._apart:
                acting.join()

    def _claim(self, fault: Fault) -> Place | None:
        places = KINDS[fault.kind].places(self._site)
        for offset in range(len(places)):
            place = places[(fault.target + offset) % len(places)]
            if place.fault.acquire(blocking=False):
                return place
        return None

    def _act(self, fault: Fault, place: Place) -> None:
        fault.at = time.time()
        try:
            with contextlib.suppress(Exception):  # what was to be killed has gone by itself
                KINDS[fault.kind].act(self._site, place, fault)
        finally:
            place.fault.release()
        ended = time.monotonic()
        if self._is_well(ended + self._bound_s):
            fault.recovered_s = time.monotonic() - ended
        fault.outlived = sum(is_alive(each) for each in fault.family)

    def _is_well(self, deadline: float) -> bool:
        """Wait until a task submitted from now on has ended on each worker with no fault."""
        probes: dict[tuple[str, str], Any] = {}
        there: dict[str, str] = {}
        asked = 0.0
        client: Any = None
        worked = time.monotonic()
        while (now := time.monotonic()) < deadline:
            try:
                if client is None or now - asked > ASK_S:
                    asked = now
                    client = self._site.client()
                    there = self._site.system.workers(client)
                    worked = now
                wanted = {p.name for p in self._site.workers if not p.fault.locked()}
                if not wanted <= there.keys():
                    asked = min(asked, now - ASK_S / 2)
                for name in wanted & there.keys():
                    probe = probes.get((name, there[name]))
                    if probe is None or probe.status not in {"pending", "finished"}:
                        probes[name, there[name]] = client.submit(
                            tasks.probe,
                            PROBE,
                            workers=[there[name]],
                            priority=PRIORITY,
                            pure=False,
                        )
                done = {name for (name, _), probe in probes.items() if probe.status == "finished"}
                if wanted <= done:
                    return True
            except Exception:  # the client is of no use, for now or for ever
                probes.clear()
                if now - worked > PATIENCE_S:
                    self._site.give_up(client)
                client = None
            time.sleep(LOOK_S)
        return False
