"""``agent status`` and ``agent down``: an agent as its host's processes show it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import psutil

from twisted_dist.access.life import machine_name, process_of
from twisted_dist.launchers.cluster.agent_files import AgentFiles
from twisted_dist.launchers.cluster.far_daemon import END_S, SIGNAL_S

#: seconds in which an agent ends, with its daemons: more than its own bounds
AGENT_END_S: Final = END_S + 2 * SIGNAL_S + 5.0
#: seconds in which what has lost its agent ends by itself
LEASH_S: Final = 5.0
#: and what was killed
KILL_S: Final = 5.0


def _elsewhere(state: Mapping[str, Any]) -> str:
    """The machine that an agent is on, if not this one: homes are shared, and names too."""
    life = state.get("life")
    machine = life.get("machine") if isinstance(life, dict) else None
    return str(machine) if machine not in {None, machine_name()} else ""


def _why_elsewhere(machine: str) -> str:
    return f"this is {machine_name()}, and it runs on {machine}, which has the same home"


def look(files: AgentFiles) -> dict[str, Any]:
    """What there is: ``{"state": "up"|"gone"|"elsewhere", "daemons": …, "why": …}``."""
    state = files.load()
    if state is None:
        return {"state": "gone", "why": files.last_words(), "log": str(files.own_log)}
    machine = _elsewhere(state)
    if machine:
        return {"state": "elsewhere", "why": _why_elsewhere(machine)}
    if process_of(state.get("life")) is None:
        left = _alive(state)
        why = "it was killed" + (f"; {len(left)} processes are left" if left else "")
        return {"state": "gone", "why": why, "log": str(files.own_log)}
    return {"state": "up", "daemons": state.get("daemons"), "log": str(files.directory)}


def _alive(state: Mapping[str, Any]) -> list[psutil.Process]:
    """The agent and its daemons, with all below them, as far as they live."""
    told = state.get("processes")
    lives = [state.get("life"), *(told if isinstance(told, list) else [])]
    found: dict[int, psutil.Process] = {}
    for each in filter(None, map(process_of, lives)):
        with contextlib.suppress(psutil.Error):
            for one in (each, *each.children(recursive=True)):
                found[one.pid] = one
    return list(found.values())


def end(files: AgentFiles) -> dict[str, Any]:
    """End it: ``{"state": "ended"|"gone"|"elsewhere"|"left", "processes": …, "killed": …}``.

    A process is never taken for one by its number alone.
    """
    state = files.load()
    if state is None:
        return {"state": "gone"}
    machine = _elsewhere(state)
    if machine:
        return {"state": "elsewhere", "why": _why_elsewhere(machine)}
    family = _alive(state)
    agent = process_of(state.get("life"))
    if agent is not None:
        with contextlib.suppress(psutil.Error):
            agent.terminate()
        psutil.wait_procs([agent], AGENT_END_S)
    # a daemon may have been started meanwhile
    later = files.load()
    family += [] if later is None else [each for each in _alive(later) if each not in family]
    _, left = psutil.wait_procs(family, LEASH_S)
    if left:
        _kill(left)
        _, stubborn = psutil.wait_procs(left, KILL_S)
        if stubborn:
            pids = ", ".join(str(each.pid) for each in stubborn)
            return {"state": "left", "why": f"processes {pids} do not end, not even by SIGKILL"}
    files.remove()
    if not family:
        return {"state": "gone"}
    return {"state": "ended", "processes": len(family), "killed": len(left)}


def _kill(processes: Iterable[psutil.Process]) -> None:
    for each in list(processes):
        with contextlib.suppress(psutil.Error):
            for below in each.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    below.kill()
        with contextlib.suppress(psutil.Error):
            each.kill()
