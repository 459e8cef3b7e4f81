"""Uploads in a process: what can be imported and opened, in which version, and for how long."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import threading
from pathlib import Path

import pytest

from tests.execution.test_archive import zipped
from twisted_dist.errors import UsageProblem
from twisted_dist.execution import uploads as module
from twisted_dist.execution.runner import TaskRunner, TaskSpec
from twisted_dist.execution.upload_rules import check_name, digest_of
from twisted_dist.execution.uploads import MOST_REPLACED, Uploads, uploaded


class Counted(Uploads):
    """Uploads that take bytes, and count changes."""

    def __init__(self):
        self.changes = 0
        super().__init__(self._count)

    def _count(self):
        self.changes += 1

    def put(self, name, blob):
        """Install bytes or text."""
        blob = blob.encode() if isinstance(blob, str) else blob
        return self.install(name, digest_of(blob), blob)


@pytest.fixture
def make():
    """Makes `Uploads`; nothing of them may be left in the process afterwards."""
    path, modules, made = list(sys.path), set(sys.modules), []

    def one():
        made.append(Counted())
        return made[-1]

    yield one
    scratch = module._process._scratch
    for each in made:
        each.close()
    assert sys.path == path
    assert {each for each in set(sys.modules) - modules if each.startswith("up_")} == set()
    assert scratch is None or not scratch.path.exists()


def test_a_module_and_its_next_version(make):
    """`Uploads.install` has a module imported, and a changed one of the same size anew."""
    mine = make()
    assert mine.put("up_a.py", "X = 1") == ""
    first = importlib.import_module("up_a")
    assert first.X == 1
    assert mine.put("up_a.py", "X = 2") == ""
    second = importlib.import_module("up_a")
    assert (second.X, first.X) == (2, 1)
    assert Path(first.__file__).read_text() == "X = 1"  # what runs goes on with what it has
    assert mine.put("up_a.py", "X = 1") == ""
    assert importlib.import_module("up_a").X == 1
    assert mine.changes == 3


def test_the_same_is_left_alone(make):
    """`Uploads.install` does nothing where the same is there already, also for another worker."""
    mine, other = make(), make()
    mine.put("up_a.py", "X = []")
    first = importlib.import_module("up_a")
    path = uploaded("up_a.py")
    assert other.put("up_a.py", "X = []") == ""
    assert importlib.import_module("up_a") is first
    mine.close()
    assert uploaded("up_a.py") == path
    assert importlib.import_module("up_a") is first
    other.close()
    with pytest.raises(FileNotFoundError, match=r"up_a\.py.*nothing"):
        uploaded("up_a.py")
    assert not os.path.exists(path)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("up_a")


def test_packages(make):
    """`Uploads.install` unpacks a package, and drops its submodules when it is replaced."""
    mine = make()
    for value in (1, 2):
        blob = zipped(("__init__.py", ""), ("sub/__init__.py", f"X = {value}"), ("data.txt", "d"))
        assert mine.put("up_p/", blob) == ""
        assert value == importlib.import_module("up_p.sub").X
    assert Path(uploaded("up_p"), "data.txt").read_text() == "d"


def test_a_directory_without_init(make):
    """`Uploads.install` has what is in another directory imported by its own name."""
    mine = make()
    mine.put("some stuff/", zipped(("up_b.py", "X = 1"), ("up_c/__init__.py", "X = 2")))
    assert importlib.import_module("up_b").X + importlib.import_module("up_c").X == 3


def test_archives(make):
    """`Uploads.install` has archives imported from, in their newest version."""
    mine = make()
    for value in (1, 2):
        assert mine.put("up.whl", zipped(("up_z.py", f"X = {value}"))) == ""
        assert value == importlib.import_module("up_z").X
    assert mine.put("up.zip", b"nothing of the kind") == "it is no zip archive"


def test_files(make):
    """`uploaded` finds a file, the newest; earlier ones stay for a while, and not for ever."""
    mine = make()
    paths = []
    for value in range(MOST_REPLACED + 3):
        mine.put("up.csv", f"{value}")
        paths.append(uploaded("up.csv"))
        assert Path(paths[-1]).read_text() == f"{value}"
    assert [os.path.exists(each) for each in paths] == [False] * 2 + [True] * (MOST_REPLACED + 1)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "../x.py", "/etc/x", "a/b", "a\\b", "a\0b", "a\nb", "x" * 256, "é" * 128]
    + ["../", "a/b/", "./"],
)
def test_names_that_are_paths(name, make):
    """`check_name` refuses what is no name of a file, and nothing is written for it."""
    with pytest.raises(UsageProblem, match=r"name of an uploaded file|is longer than"):
        check_name(name)
    assert make().put(name, "") != ""


@pytest.mark.parametrize("name", ["os.py", "twisted_dist.py", "msgpack.py", "__main__.py"])
def test_names_of_others(name, make):
    """`check_name` refuses modules that would hide Python's or ours."""
    with pytest.raises(UsageProblem, match="would hide"):
        check_name(name)
    assert "would hide" in make().put(name, "")
    assert "would hide" in make().put(name[:-3] + "/", zipped(("__init__.py", "")))


@pytest.mark.parametrize("name", ["a b.py", "1.py", "class.py", ".py"])
def test_names_that_cannot_be_imported(name):
    """`check_name` refuses a module that nobody could import."""
    with pytest.raises(UsageProblem, match="cannot be imported"):
        check_name(name)


def test_what_cannot_be_had_changes_nothing(make):
    """`Uploads.install` gives one line for what fails, and the version before stays."""
    mine = make()
    mine.put("up_p/", zipped(("__init__.py", "X = 1")))
    assert "name of an uploaded file" in mine.put("up_p/", zipped(("../up.txt", "")))
    assert importlib.import_module("up_p").X == 1
    assert len(os.listdir(module._process._scratch.path)) == 2  # the lock, and the version


def test_functions_are_loaded_anew(make):
    """`TaskRunner.forget_loaded` has functions by reference loaded from the new module."""
    runner = TaskRunner()
    mine = Uploads(runner.forget_loaded)
    values = []
    try:
        for value in (1, 2):
            blob = f"def f(): return {value}".encode()
            assert mine.install("up_f.py", digest_of(blob), blob) == ""
            if value == 1:
                runner.add_function(b"f", pickle.dumps(importlib.import_module("up_f").f))
            outcome = runner.run(TaskSpec(1, 1, b"f", pickle.dumps(((), {})), ()))
            values.append(pickle.loads(outcome.value))
    finally:
        mine.close()
    assert values == [1, 2]


def test_after_the_end(make):
    """`Uploads.install` takes nothing when it was closed meanwhile."""
    mine = make()
    mine.close()
    assert mine.put("up_a.py", "") == "it is not wanted any more"


def test_pieces(make, tmp_path):
    """`Uploads.add_piece` puts pieces together, and leaves nothing of what is refused or known."""
    mine = make()
    blob = zipped(("__init__.py", "X = 1"))
    for name, expected in (("up_p/", ""), ("up_p/", ""), ("../up/", "name of an uploaded file")):
        answers = [
            mine.add_piece(name, digest_of(blob), blob[n : n + 50], n + 50 >= len(blob), tmp_path)
            for n in range(0, len(blob), 50)
        ]
        assert answers[:-1] == [None] * (len(answers) - 1)
        assert expected in answers[-1]
        assert len(answers) > 1
        assert [each.name[:7] for each in tmp_path.iterdir()] == ["upload-"]
    assert importlib.import_module("up_p").X == 1


def test_pieces_that_cannot_be_written(make, tmp_path):
    """`Uploads.add_piece` says with the last piece what was wrong with any, and then goes on."""
    mine = make()
    incoming = tmp_path / module.INCOMING
    incoming.mkdir()
    assert mine.add_piece("up.csv", b"d", b"1", False, tmp_path) is None
    incoming.rmdir()
    assert "Is a directory" in mine.add_piece("up.csv", b"d", b"2", True, tmp_path)
    assert mine.add_piece("up.csv", b"e", b"3", True, tmp_path) == ""
    assert Path(uploaded("up.csv")).read_text() == "3"


def test_an_import_that_is_under_way(make, monkeypatch):
    """`Uploads.install` waits for an import of what it replaces, which would fail otherwise."""
    gate = threading.Event()
    started = threading.Event()
    monkeypatch.setattr(sys, "up_events", (started, gate), raising=False)
    look = module._is_being_imported

    def seen(name):
        if not look(name):
            return False
        gate.set()
        return True

    monkeypatch.setattr(module, "_is_being_imported", seen)
    mine = make()
    mine.put("up_s.py", "import sys; sys.up_events[0].set(); X = sys.up_events[1].wait(30)")
    got = []
    thread = threading.Thread(target=lambda: got.append(importlib.import_module("up_s").X))
    thread.start()
    assert started.wait(30)
    assert mine.put("up_s.py", "X = 2") == ""
    thread.join(30)
    assert got == [True]
    assert importlib.import_module("up_s").X == 2
