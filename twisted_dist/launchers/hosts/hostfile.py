"""Hostfiles: hosts, and what is said of them.

What was a hostfile in 2016, words between blanks, still is one; so is what OpenMPI, PBS
(``$PBS_NODEFILE``) and SLURM (``$SLURM_JOB_NODELIST``) write::

    # the front machine
    alice@front:2222  role=scheduler
    node[01-12]       nthreads=4 env.OMP_NUM_THREADS=1
    node13 node13     python=/opt/py/bin/python resources="GPU=2 memory=16e9"
    node14            slots=8

What a line says of its hosts holds for all of them. A host has a worker for each time that it
is named, in whatever line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve

from twisted_dist.core.options import read_amounts
from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.hosts.ranges import split
from twisted_dist.launchers.hosts.spec import HostSpec, Role
from twisted_dist.launchers.hosts.words import bounded, hosts_of

#: characters of a hostfile: several times what `ranges.MAX_HOSTS` lines have
MAX_TEXT: Final = 4 * 2**20

_ENV: Final = "env."
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_COUNTS: Final = ("nprocs", "nthreads")
#: OpenMPI's, with or without a hyphen: more than slots would be oversubscribed, which never is
_MAX_SLOTS: Final = ("max_slots", "max-slots")
_ALLOWED: Final = (
    "a line has hosts, as USER@HOST:PORT or node[01-64], and of nprocs=N nthreads=N name=NAME "
    "python=PATH env.NAME=VALUE role=scheduler|worker resources='GPU=1' slots=N"
)


def parse(text: str, source: str) -> list[HostSpec]:
    """The hosts of a file, in order; a host that is named twice is there twice.

    Args:
        text: its content.
        source: its name, for messages.

    Raises:
        UsageProblem: names the line, what is wrong with it, and what may be there.
    """
    if len(text) > MAX_TEXT:
        raise UsageProblem(f"{source}: too large for a hostfile")
    hosts: list[HostSpec] = []
    scheduler: HostSpec | None = None
    # not splitlines(), which has line ends of its own, where no editor shows one
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1):
        where = f"{source}:{number}"
        try:
            found = _line(line, where)
            for each in found:
                if each.role is Role.SCHEDULER:
                    if scheduler is not None:
                        raise UsageProblem(
                            f"role=scheduler is for one host, and {scheduler} has it "
                            f"({scheduler.source})"
                        )
                    scheduler = each
        except UsageProblem as problem:
            raise UsageProblem(f"{where}: {problem}") from None
        hosts += found
        bounded(hosts, source)
    return hosts


def _line(line: str, where: str) -> list[HostSpec]:
    """The hosts of one line. Raises UsageProblem, without the line's number."""
    try:
        parts = shlex.split(_without_comment(line))
    except ValueError as problem:
        raise UsageProblem(f"{str(problem).lower()}: a quote or backslash has no end") from None
    hosts: list[HostSpec] = []
    said: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if equals:
            if key in said:
                raise UsageProblem(f"{key}= twice")
            said[key] = value
        else:
            for word in split(part):
                hosts += hosts_of(word, where)
                bounded(hosts, where)
    if not said:
        return hosts
    attributes = _attributes(said)
    if not hosts:
        raise UsageProblem(f"{' '.join(f'{key}=' for key in said)} of which host? {_ALLOWED}")
    if "name" in attributes and (len(hosts) > 1 or attributes.get("nprocs", 1) > 1):
        raise UsageProblem("name= is for one worker, and this line has several")
    return [evolve(each, **attributes) for each in hosts]


def _without_comment(line: str) -> str:
    """All before a ``#`` that begins a word outside of quotes, as in shells.

    shlex takes a ``#`` within a word for one, too.
    """
    quote = ""
    is_begin = True
    at = 0
    while at < len(line):
        letter = line[at]
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\\" and quote == '"':
                at += 1
        elif letter in "'\"":
            quote = letter
        elif letter == "\\":
            at += 1
        elif letter == "#" and is_begin:
            return line[:at]
        is_begin = letter.isspace() and not quote
        at += 1
    return line


def _attributes(said: Mapping[str, str]) -> dict[str, Any]:
    """As `HostSpec` has them."""
    found: dict[str, Any] = {}
    env: dict[str, str] = {}
    for key, value in said.items():
        if key.startswith(_ENV):
            name = key.removeprefix(_ENV)
            if not _VARIABLE.match(name):
                raise UsageProblem(f"{name!r} is no name of a variable; env.NAME=VALUE is meant")
            if "\0" in value:
                raise UsageProblem(f"{key}= has a zero byte")
            env[name] = value
        elif key in _COUNTS:
            found[key] = _count(key, value)
        elif key in ("name", "python"):
            if not value or not value.isprintable():
                raise UsageProblem(f"{key}={value!r} is none")
            found[key] = value
        elif key == "role":
            found[key] = _role(value)
        elif key == "resources":
            found[key] = _resources(value)
        elif key != "slots" and key not in _MAX_SLOTS:
            raise UsageProblem(f"{key}= is not known; {_ALLOWED}")
    if env:
        found["env"] = env
    _slots(said, found)
    return found


def _slots(said: Mapping[str, str], found: dict[str, Any]) -> None:
    """OpenMPI's slots: where a process can be, each with one thing to do at a time."""
    slots = _count("slots", said["slots"]) if "slots" in said else None
    for key in _MAX_SLOTS:
        if key in said and _count(key, said[key]) < (slots or 1):
            raise UsageProblem(f"{key}={said[key]} is less than slots={slots or 1}")
    if slots is None:
        return
    if "nprocs" in found:
        raise UsageProblem("slots= are processes, as nprocs= is: give one of them")
    found["nprocs"] = slots
    found.setdefault("nthreads", 1)


def _count(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 6 or int(value) < 1:  # noqa: PLR2004
        raise UsageProblem(f"{key}={value!r} is not a count: a number from 1 up")
    return int(value)


def _role(value: str) -> Role:
    try:
        return Role(value)
    except ValueError:
        allowed = " or ".join(each.value for each in Role)
        raise UsageProblem(f"role={value!r} is none; {allowed} is meant") from None


def _resources(value: str) -> str:
    try:
        read_amounts(value)
    except ValueError as problem:
        raise UsageProblem(f"resources=: {problem}") from None
    return value
