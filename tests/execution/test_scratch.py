"""Temporary directories whose owners end in every way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from twisted_dist.execution import scratch
from twisted_dist.execution.scratch import Scratch, sweep

#: makes a directory, says which, and ends as it is told to
OWNER = """
import os, sys, signal
from twisted_dist.execution.scratch import Scratch
made = Scratch()
(made.path / "file").write_text("x")
print(made.path, flush=True)
how = sys.stdin.readline().strip()
if how == "fork":
    if os.fork() == 0:
        sys.exit()
    os.wait()
    print((made.path / "file").exists(), flush=True)
elif how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def owner(tmp_path, monkeypatch):
    """A process with a directory, which is asked how to end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        process.path = process.stdout.readline().strip()
        yield process
        process.kill()
    monkeypatch.undo()
    tempfile.tempdir = None


def test_an_owner_that_lives_keeps_it(owner):
    """`sweep` leaves alone what somebody has; its owner removes it when it ends."""
    sweep()
    assert sorted(os.listdir(owner.path)) == ["file", "lock"]
    owner.communicate("end\n")
    assert not os.path.exists(owner.path)


def test_an_owner_that_was_killed(owner):
    """`sweep` removes what an owner has left that could not."""
    owner.communicate("kill\n")
    assert owner.returncode == -signal.SIGKILL
    assert os.path.exists(owner.path)
    sweep()
    assert not os.path.exists(owner.path)


def test_a_copy_of_the_owner(owner):
    """`Scratch` is not removed by what its owner has forked."""
    assert owner.communicate("fork\n")[0] == "True\n"


def test_what_only_looks_like_one(owner, tmp_path):
    """`sweep` leaves links, files and directories without a lock alone, its own too."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "lock").write_text("")
    prefix = scratch._prefix()
    (tmp_path / f"{prefix}link").symlink_to(victim)
    (tmp_path / f"{prefix}file").write_text("")
    (tmp_path / f"{prefix}fresh").mkdir()
    mine = Scratch()
    sweep()
    assert (victim / "lock").exists()
    assert (tmp_path / f"{prefix}fresh").exists()
    assert mine.path.exists()
    assert mine.path.stat().st_mode & 0o777 == 0o700
    mine.remove()
    mine.remove()
    assert not mine.path.exists()
