"""Directories as archives: the same bytes each time, and no way out of where they are unpacked."""

from __future__ import annotations

import io
import os
import stat
import zipfile

import pytest

from twisted_dist.errors import UsageProblem
from twisted_dist.execution import archive
from twisted_dist.execution.archive import pack, top_modules, unpack


def zipped(*entries):
    """An archive of ``(name or ZipInfo, bytes)``."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name, data in entries:
            made.writestr(name, data)
    return target.getvalue()


def unpacked(blob, target):
    """Unpack bytes."""
    return unpack(io.BytesIO(blob), target)


def tree(root):
    """Some files below *root*."""
    (root / "sub").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "sub" / "b.py").write_text("b = 1")
    (root / "a.sh").write_text("echo")
    (root / "a.sh").chmod(0o755)
    return root


def test_same_contents_same_bytes(tmp_path):
    """`pack` depends on names and contents, not on times, order, or what tools leave there."""
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "a.sh", (1, 1))
    for name in ("__pycache__", ".git"):
        (two / name).mkdir()
        (two / name / "x").write_text("x")
    (two / "old.pyc").write_text("x")
    assert pack(one) == pack(two)
    (two / "sub" / "b.py").write_text("b = 2")
    assert pack(one) != pack(two)


def test_round_trip(tmp_path):
    """`unpack` makes what `pack` found, executable files too."""
    names = unpacked(pack(tree(tmp_path / "one")), tmp_path / "two")
    assert sorted(names) == ["__init__.py", "a.sh", "sub/b.py"]
    assert (tmp_path / "two" / "sub" / "b.py").read_text() == "b = 1"
    assert os.access(tmp_path / "two" / "a.sh", os.X_OK)


def test_what_is_not_packed(tmp_path):
    """`pack` refuses links that lead out, links to directories, and nothing at all."""
    with pytest.raises(UsageProblem, match="no files"):
        pack(tmp_path)
    root = tree(tmp_path / "one")
    (root / "inside.sh").symlink_to("a.sh")
    assert "inside.sh" in archive.names_in(io.BytesIO(pack(root)))
    (root / "out").symlink_to("/etc/passwd")
    with pytest.raises(UsageProblem, match="leads out"):
        pack(root)
    (root / "out").unlink()
    (root / "there").symlink_to("sub")
    with pytest.raises(UsageProblem, match="link to a directory"):
        pack(root)
    (root / "there").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(UsageProblem, match="is no file"):
        pack(root)


def test_too_much_to_pack(tmp_path, monkeypatch):
    """`pack` says what to do with a directory that is too large."""
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(UsageProblem, match=r"more than 2 files.*scatter\(\)"):
        pack(tree(tmp_path / "one"))


def link():
    """An entry that would become a symbolic link."""
    entry = zipfile.ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (zipped(("../x", "")), "name of an uploaded file"),
        (zipped(("a/../../x", "")), "name of an uploaded file"),
        (zipped(("/etc/x", "")), "name of an uploaded file"),
        (zipped(("a\\..\\x", "")), "name of an uploaded file"),
        (zipped(("a//x", "")), "name of an uploaded file"),
        (zipped(("./x", "")), "name of an uploaded file"),
        (zipped(("dir/", "")), "name of an uploaded file"),
        (zipped((link(), "/etc/passwd")), "no plain file"),
        (b"PK, but no archive", "no zip archive"),
        (zipped(("x", "1" * 100))[:-4], "no zip archive"),
    ],
)
def test_what_is_not_unpacked(blob, why, tmp_path):
    """`unpack` refuses what leads out, is a link, or is none; nothing is written beside it."""
    with pytest.raises(UsageProblem, match=why):
        unpacked(blob, tmp_path / "target")
    assert [each.name for each in tmp_path.iterdir()] in ([], ["target"])
    assert not any((tmp_path / "target").glob("*"))


def test_a_bomb(tmp_path, monkeypatch):
    """`unpack` counts what it writes, and not what the archive says of itself."""
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 100_000)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("zeros", bytes(1_000_000))
    assert len(target.getvalue()) < 10_000
    with pytest.raises(UsageProblem, match="unpacks to more than"):
        unpacked(target.getvalue(), tmp_path / "target")
    assert (tmp_path / "target" / "zeros").stat().st_size <= 100_000


def test_damaged_contents(tmp_path):
    """`unpack` refuses an archive whose contents are not what they should be."""
    blob = zipped(("x", "12345678"))
    with pytest.raises(UsageProblem, match="cannot be read"):
        unpacked(blob.replace(b"12345678", b"12345679", 1), tmp_path / "target")


def test_twice_the_same(tmp_path):
    """`unpack` overwrites nothing."""
    with pytest.warns(UserWarning, match="Duplicate"):
        blob = zipped(("x", "1"), ("x", "2"))
    with pytest.raises(FileExistsError):
        unpacked(blob, tmp_path / "target")


def test_top_modules():
    """`top_modules` finds what can be imported, and not what lies beside."""
    names = ["a.py", "b/__init__.py", "b/c.py", "d.cpython-311.so", "e/f.txt", "g.txt", "n/m.py"]
    assert top_modules(names) == {"a", "b", "d", "n"}
