"""The tutorial of clusters, typed as it says, on two hosts of its own."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.support import hosts as network
from tests.support import sshd
from tests.support.daemons import all_gone
from tests.support.terminal import Terminal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2"),
    pytest.mark.skipif(not sshd.available(), reason="needs OpenSSH's server"),
]

DOCUMENT = Path(__file__).parents[2] / "docs/tutorial-cluster.md"
USER, PASSWORD, PROMPT = "ann", "correct horse", "[ready] "
ANSWERS = {
    r"password:": PASSWORD,
    r"\(yes/no/\[fingerprint\]\)\?": "yes",
    r"save the key \(.*\):": "",
    r"passphrase.*:": "",
}
#: seconds for the slowest step, on a machine that does much else
PATIENCE_S = 60.0
#: what stands for installing: the hosts have no internet
PROGRAM = """\
#!{python}
import sys
from twisted_dist.cli.main import dcluster
sys.exit(dcluster())
"""


@frozen
class Block:
    """A code block: how it is marked before, its language, and its lines."""

    marks: tuple[str, ...]
    language: str
    lines: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    """Those of a document; ``% words`` before one are its marks."""
    pattern = r"((?:^% [^\n]*\n)*)^```(\w+)\n(.*?)^```$"
    for marks, language, inside in re.findall(pattern, text, re.MULTILINE | re.DOTALL):
        words = tuple(each.removeprefix("% ") for each in marks.splitlines())
        yield Block(words, language, tuple(inside.splitlines()))


def as_pattern(line: str) -> str:
    """What matches a line that is like this one: numbers may be others, … is anything."""
    parts = re.split(r"(…|\d+|\s+)", line.strip())
    same = {"…": ".*"}
    return "".join(
        same.get(each)
        or (r"\d+" if each.isdigit() else r"\s+" if each.isspace() else re.escape(each))
        for each in parts
    )


class Reader:
    """Somebody who does what the document says."""

    def __init__(self, person: Any, home: Path) -> None:
        self._open = person
        self._home = home
        self._terminals: dict[str, Terminal] = {}
        self._waits: dict[str, bool] = {}
        self._here = "1"

    def close(self) -> None:
        """Close the terminals."""
        for each in self._terminals.values():
            print(each.text)
            each.close()

    def follow(self, block: Block) -> None:
        """Do what a block says, or see what it shows."""
        for mark in block.marks:
            kind, _, name = mark.partition(" ")
            if kind == "terminal":
                self._here = name
            elif kind == "file":
                (self._home / name).write_text("\n".join(block.lines) + "\n", encoding="utf-8")
        if block.language == "console":
            for line in block.lines:
                self._do(line, "install" in block.marks)

    def _do(self, line: str, is_installing: bool) -> None:
        if self._here not in self._terminals:
            self._terminals[self._here] = self._open()
            self._waits[self._here] = True
        terminal = self._terminals[self._here]
        if line == "^C":
            terminal.press("\x03")
        elif line.startswith("$ "):
            if not self._waits[self._here]:
                terminal.prompted(PATIENCE_S)
            if is_installing:
                line = self._instead(line)
            terminal.type(line[2:])
            self._waits[self._here] = False
        elif line.strip() not in {"", "…"}:
            # what several hosts do has no order
            terminal.expect(as_pattern(line), PATIENCE_S, in_order=False)

    def _instead(self, line: str) -> str:
        """What is typed instead, for an environment that has what ours has, without pip."""
        if line.startswith("$ pip "):
            install(self._home)
            return "$ hash -r"
        return line.replace("-m venv ", "-m venv --without-pip ")


def install(home: Path) -> None:
    """Let ``~/cluster`` have what this Python has."""
    [site] = (home / "cluster").glob("lib/python3*/site-packages")
    ours = sysconfig.get_path("purelib")
    (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    program = home / "cluster/bin/dcluster"
    python = (home / "cluster/bin/activate").read_text(encoding="utf-8")
    [place] = re.findall(r"VIRTUAL_ENV=['\"]?([^'\"\n]+)", python)[:1]
    program.write_text(PROGRAM.format(python=f"{place}/bin/python"), encoding="utf-8")
    program.chmod(0o755)


@pytest.fixture
def reader():
    """At the first of two machines, which both have a Python, and nothing in their homes."""
    base = Path(tempfile.mkdtemp(prefix="td-tutorial-"))
    # where `python3` is the one that runs this
    path = f"{Path(sys.base_prefix)}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    how: dict[str, Any] = {
        "lines": ["AuthorizedKeysFile .ssh/authorized_keys", "PermitRootLogin yes"],
        "environment": {"PATH": path},
        "passwords": {USER: PASSWORD},
        "people_are_root": True,
    }
    with network.building(2) as hosts, sshd.serving(base / "d", 2, hosts=hosts, **how) as sshds:

        def sit_down() -> Terminal:
            options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
            options += ["PreferredAuthentications=password", "LogLevel=ERROR"]
            words = [word for each in options for word in ("-o", each)]
            ssh = ["ssh", "-F", "none", *words, f"{USER}@{hosts.address(1)}"]
            terminal = Terminal([*hosts.wrap[1], *ssh], ANSWERS, PROMPT)
            terminal.expect(r"[#$] \Z")
            terminal.type(f"PATH={path}; cd; PS1='[rea''dy] '")
            terminal.prompted()
            return terminal

        person = Reader(sit_down, sshds.home(USER, 1))
        try:
            yield person
        finally:
            person.close()
        for host in sshds:
            assert all_gone(host.running()), host.running()
    shutil.rmtree(base)


@pytest.mark.timeout(600)
def test_tutorial(reader):
    """All that it says can be done, and what it shows is seen; nothing is left."""
    for block in blocks(DOCUMENT.read_text(encoding="utf-8")):
        reader.follow(block)
