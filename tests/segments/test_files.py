"""`segments.files`: files without a name, who may open them, and who is seen to read them."""

import os
import subprocess
import tempfile

import pytest

from tests.support.sharing import copy, nothing_left_open
from twisted_dist.segments import files
from twisted_dist.segments.files import (
    CAN_SHARE,
    File,
    has_room,
    in_memory,
    lock_to_read,
    lock_to_write,
    on_disk,
    reopen,
    unlock,
)

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")


@pytest.fixture
def file():
    """One in memory."""
    return File(in_memory())


def other(file):
    """Another description of the same file, to read it."""
    return File(reopen(os.getpid(), file.fd))


def test_the_last_descriptor_is_the_end():
    """`File` closes its descriptor with its last reference, and is counted until then."""
    with nothing_left_open():
        alive = File.alive
        file = File(in_memory())
        assert File.alive == alive + 1
        again = file
        del file
        os.fstat(again.fd)
        del again
    assert File.alive == alive


def test_closed_by_somebody_else():
    """`File` ends without an error where user code has closed its descriptor."""
    file = File(in_memory())
    os.close(file.fd)
    del file


def test_memory_is_not_cut_short(file):
    """`in_memory` gives what cannot be made shorter: who has it mapped would die of that."""
    os.ftruncate(file.fd, 100)
    with pytest.raises(PermissionError):
        os.ftruncate(file.fd, 10)
    os.ftruncate(file.fd, 200)


@pytest.mark.parametrize("can", [True, False])
def test_a_disks_file_has_no_name(tmp_path, monkeypatch, can):
    """`on_disk` leaves nothing in the directory, on file systems of both kinds."""
    if not can:
        monkeypatch.delattr(os, "O_TMPFILE")
    file = File(on_disk(str(tmp_path)))
    assert os.listdir(tmp_path) == []
    os.pwrite(file.fd, b"there", 0)
    assert os.pread(other(file).fd, 9, 0) == b"there"
    assert os.fstat(file.fd).st_dev == tmp_path.stat().st_dev


def test_no_disk(tmp_path):
    """`on_disk` raises OSError where there is no such directory."""
    with pytest.raises(FileNotFoundError):
        on_disk(str(tmp_path / "none"))


def test_reading_only(file):
    """`reopen` gives a description that reads, and nothing more, and is not inherited."""
    os.pwrite(file.fd, b"there", 0)
    theirs = other(file)
    assert os.pread(theirs.fd, 5, 0) == b"there"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(theirs.fd, b"x", 0)
    assert not os.get_inheritable(theirs.fd)


@pytest.fixture
def never_opened(monkeypatch):
    """Fails where anything of /proc is opened."""
    real = os.open

    def watched(path, *args, **kwargs):
        assert not str(path).startswith("/proc"), f"{path} was opened"
        return real(path, *args, **kwargs)

    monkeypatch.setattr(files.os, "open", watched)


def refused(fd):
    """Whether this process' *fd* cannot be had."""
    with pytest.raises(OSError, match="not a file without a name"):
        reopen(os.getpid(), fd)
    return True


@pytest.mark.usefixtures("never_opened")
def test_what_is_no_such_file(tmp_path):
    """`reopen` opens no named file, pipe, device, directory or socket: not even for a look."""
    with tempfile.NamedTemporaryFile(dir=tmp_path) as named:
        assert refused(named.fileno())
    reading, writing = os.pipe()
    device = os.open(os.devnull, os.O_RDONLY)
    folder = os.open(tmp_path, os.O_RDONLY)
    for each in (reading, writing, device, folder):
        assert refused(each)
        os.close(each)


@pytest.mark.usefixtures("never_opened")
def test_nobody_and_nothing():
    """`reopen` raises OSError for a process that is gone, and a descriptor that is closed."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, fd in ((gone.pid, 0), (-1, 0), (0, 0), (2**70, 0), (os.getpid(), 10**9)):
        with pytest.raises(OSError, match="/proc"):
            reopen(pid, fd)


def test_who_reads_forbids_to_write(file):
    """`lock_to_write` says no while another description has `lock_to_read`, and yes after."""
    first, second = other(file), other(file)
    assert lock_to_read(first.fd)
    assert lock_to_read(second.fd)
    assert not lock_to_write(file.fd)
    unlock(first.fd)
    assert not lock_to_write(file.fd)
    del second
    assert lock_to_write(file.fd)


def test_who_writes_forbids_to_read(file):
    """`lock_to_read` says no while somebody writes."""
    assert lock_to_write(file.fd)
    theirs = other(file)
    assert not lock_to_read(theirs.fd)
    unlock(file.fd)
    assert lock_to_read(theirs.fd)


def test_a_lock_is_kept_by_a_copy(file):
    """A lock to read ends with the last process that has the description."""
    theirs = other(file)
    assert lock_to_read(theirs.fd)
    with copy():
        del theirs
        assert not lock_to_write(file.fd)
    assert lock_to_write(file.fd)


def test_other_processes_see_it(file):
    """A lock to read that another process has taken by itself forbids to write here."""
    fd, pid = file.fd, os.getpid()

    def read():
        return lock_to_read(reopen(pid, fd))

    with copy(read) as (_, could):
        assert could
        assert not lock_to_write(file.fd)
    assert lock_to_write(file.fd)


def test_room(monkeypatch):
    """`has_room` says no from a quarter of the descriptors allowed on, and yes without a bound."""
    for soft, expected in ((4 * 10, False), (4 * 11, True), (-1, True)):
        monkeypatch.setattr(files.resource, "getrlimit", lambda kind, soft=soft: (soft, soft))
        monkeypatch.setattr(File, "alive", 10)
        assert has_room() is expected
