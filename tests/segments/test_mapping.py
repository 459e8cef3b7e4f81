"""`Mappings`: what is handed out is read-only, stays, and lets go of its lock with its end."""

import array
import gc
import os
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sharing import copy, descriptors, nothing_left_open
from twisted_dist.segments import mapping as mappings_module
from twisted_dist.segments import memory as memory_module
from twisted_dist.segments.files import CAN_SHARE, File, lock_to_write, on_disk, reopen
from twisted_dist.segments.mapping import COPIED_BYTES, KEPT_MAPPINGS, Mappings
from twisted_dist.segments.pool import SegmentPool
from twisted_dist.segments.segment import ALIGNMENT, Segment, new_tag

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="so far, on Linux")
SIZE = COPIED_BYTES + 8


@pytest.fixture
def pool():
    """Where values are written; in the end nothing is left open."""
    with nothing_left_open():
        made = SegmentPool()
        yield made
        gc.collect()
        made.tidy(everything=True)


@pytest.fixture
def mappings(pool):
    """The reader; in the end it has let go."""
    made = Mappings()
    yield made
    gc.collect()
    made.tidy()
    assert not made._all


def large(byte, size=SIZE):
    """A buffer that is mapped."""
    return bytes([byte]) * size


def is_free(segment):
    """Whether nobody reads it: tried as the one who has written it."""
    free = lock_to_write(segment.file.fd)
    if free:
        mappings_module.unlock(segment.file.fd)
    return free


def load(mappings, segment):
    """As another process does."""
    return mappings.load(os.getpid(), segment.place())


def test_the_same_bytes(pool, mappings):
    """`Mappings.load` gives the buffers, of any length, without a copy of them."""
    written = [large(1), b"", b"small", large(2), b""]
    segment = pool.write(written)
    loaded = load(mappings, segment)
    assert list(map(bytes, loaded)) == written
    os.pwrite(segment.file.fd, b"!", 64)  # against all rules, to see that it is the same memory
    assert loaded[0][:2] == b"!\1"


@pytest.mark.parametrize("size", [10, SIZE])
def test_read_only(pool, mappings, size):
    """What `Mappings.load` gives cannot be written, copied or mapped, nor what is made of it."""
    (whole,) = load(mappings, pool.write([large(1, size)]))
    for each in (memoryview(whole), memoryview(whole)[:8], memoryview(whole)[:8].cast("d")):
        assert each.readonly
        with pytest.raises(TypeError):
            each[0] = 0


def test_small_ones_are_copied(pool, mappings):
    """`Mappings.load` copies what is small, and keeps nothing of it."""
    segment = pool.write([large(1, COPIED_BYTES - 64)])
    (small,) = load(mappings, segment)
    assert is_free(segment)
    assert small == large(1, COPIED_BYTES - 64)
    assert not mappings._all


DERIVED = {
    "itself": lambda view: view,
    "a view": memoryview,
    "a view of a view": lambda view: memoryview(memoryview(view)),
    "a slice": lambda view: view[100:200],
    "every other": lambda view: view[::2],
    "a cast": lambda view: view.cast("d"),
    "a shape": lambda view: view[:100].cast("B", (10, 10)),
    "a buffer of pickle": pickle.PickleBuffer,
    "a loaded array": lambda view: (
        pickle.loads(pickle.dumps(bytearray(8), protocol=5), buffers=[view]) and view.toreadonly()
    ),
}


@pytest.mark.parametrize("derive", DERIVED.values(), ids=DERIVED)
def test_there_while_it_is_used(pool, mappings, derive):
    """The memory stays, and locked, while anything made of it lives; and not longer."""
    segment = pool.write([large(1)])
    derived = derive(load(mappings, segment)[0])
    gc.collect()
    mappings.tidy()
    assert not is_free(segment)
    assert bytes(memoryview(derived))[:3] == b"\1\1\1"
    del derived
    gc.collect()
    assert is_free(segment)


def test_arrays(pool, mappings):
    """An array on such memory, and what is cut from it, keeps it as well; it is read-only."""
    numpy = pytest.importorskip("numpy")
    made = numpy.arange(SIZE // 8, dtype="f8")
    buffers = []
    blob = pickle.dumps(made, protocol=5, buffer_callback=buffers.append)
    segment = pool.write([blob, buffers[0].raw()])
    first, *rest = load(mappings, segment)
    loaded = pickle.loads(first, buffers=rest)
    del first, rest
    assert (loaded == made).all()
    assert not loaded.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        loaded.flags.writeable = True
    assert loaded.ctypes.data % 64 == 0
    part = loaded[5:50:5].reshape(3, 3).T
    del loaded
    gc.collect()
    assert not is_free(segment)
    assert part[0, 0] == 5
    del part
    gc.collect()
    assert is_free(segment)


def test_each_value_for_itself(pool, mappings):
    """A value's lock ends with the last of several that were loaded from the same place."""
    segment = pool.write([large(1)])
    first, second = load(mappings, segment), load(mappings, segment)
    assert len(mappings._all) == 1
    del first
    assert not is_free(segment)
    assert second[0][0] == 1
    del second
    assert is_free(segment)


def test_in_a_cycle(pool, mappings):
    """A value whose end the garbage collector finds is let go of."""
    segment = pool.write([large(1)])
    cycle = [load(mappings, segment)]
    cycle.append(cycle)
    del cycle
    assert not is_free(segment)
    gc.collect()
    assert is_free(segment)


def test_kept_for_the_next_value(pool, mappings):
    """A mapping is used again for the next value in the same file, and locked for it."""
    segment = pool.write([large(1)])
    loaded = load(mappings, segment)
    (mapping,) = mappings._all.values()
    fd = segment.file.fd
    del loaded, segment
    second = pool.write([large(2)])
    assert second.file.fd == fd
    (buffer,) = load(mappings, second)
    assert list(mappings._all.values()) == [mapping]
    assert bytes(buffer) == large(2)
    assert not is_free(second)
    mappings.tidy()
    assert bytes(buffer) == large(2)


def test_a_shorter_and_a_longer_value(pool, mappings):
    """A mapping that was made for a shorter value of the file gives all of a longer one."""
    first = pool.write([large(1, 2 * SIZE)])
    load(mappings, first)
    fd = first.file.fd
    del first
    short = pool.write([large(2, SIZE + 64)])
    assert short.file.fd == fd
    assert bytes(load(mappings, short)[0]) == large(2, SIZE + 64)
    del short
    longer = pool.write([large(3, 2 * SIZE)])
    assert longer.file.fd == fd
    assert bytes(load(mappings, longer)[0]) == large(3, 2 * SIZE)


def test_several_in_a_file(mappings, tmp_path):
    """`Mappings.load` gives each value of a file what is its own, by one mapping."""
    file = File(on_disk(str(tmp_path)))
    segments = []
    for each in range(3):
        segments.append(Segment(file, each * 2 * SIZE, new_tag(), [SIZE], in_memory=False))
        os.pwrite(file.fd, segments[-1].tag, segments[-1].start)
        os.pwrite(file.fd, large(each), segments[-1].start + ALIGNMENT)
    os.ftruncate(file.fd, 6 * SIZE)
    loaded = [load(mappings, each) for each in segments]
    assert [bytes(each[0]) for each in loaded] == [large(each) for each in range(3)]
    assert len(mappings._all) == 1


def test_tidy(pool, mappings):
    """`Mappings.tidy` lets go of what has no value any more, and of nothing else."""
    before = descriptors()
    segments = [pool.write([large(each)]) for each in range(3)]
    loaded = [load(mappings, each) for each in segments]
    del loaded[1]
    mappings.tidy()
    assert len(mappings._all) == 2
    assert [each[0][0] for each in loaded] == [0, 2]
    loaded.clear()
    segments.clear()
    mappings.tidy()
    pool.tidy(everything=True)
    assert descriptors() == before


def test_so_many_are_kept(pool, mappings, monkeypatch):
    """`Mappings` keeps `KEPT_MAPPINGS` and `kept_bytes` at most; the oldest go first."""
    segments = [pool.write([large(each)]) for each in range(KEPT_MAPPINGS + 3)]
    loaded = [load(mappings, each) for each in segments]
    assert len(mappings._all) == KEPT_MAPPINGS + 3
    while loaded:
        del loaded[0]
    assert len(mappings._all) == KEPT_MAPPINGS
    inodes = [key[1] for key in mappings._all]
    assert inodes == [os.fstat(each.file.fd).st_ino for each in segments[3:]]
    mappings.kept_bytes = 2 * segments[0].span
    load(mappings, segments[0])
    assert len(mappings._all) == 2
    assert next(reversed(mappings._all))[1] == os.fstat(segments[0].file.fd).st_ino


def test_too_many_are_copied(pool, mappings, monkeypatch):
    """`Mappings.load` copies where too many are mapped already."""
    monkeypatch.setattr(mappings_module, "MOST_MAPPINGS", 2)
    segments = [pool.write([large(each)]) for each in range(3)]
    loaded = [load(mappings, each)[0] for each in segments]
    assert list(map(is_free, segments)) == [False, False, True]
    assert [each[0] for each in loaded] == [0, 1, 2]


def test_no_memory_to_map_into(pool, mappings, monkeypatch):
    """`Mappings.load` raises OSError where nothing can be mapped, and keeps nothing."""
    segment = pool.write([large(1)])
    before = descriptors()
    monkeypatch.setattr(
        memory_module._libc, "mmap", lambda *args: memory_module._FAILED, raising=False
    )
    with pytest.raises(OSError, match="cannot map"):
        load(mappings, segment)
    gc.collect()
    assert descriptors() == before
    assert not mappings._all
    assert is_free(segment)


def test_a_copy_keeps_the_lock(pool, mappings):
    """A fork while a value is mapped keeps its lock until the copy has ended."""
    segment = pool.write([large(1)])
    held = [load(mappings, segment)]
    with copy(lambda: held[0][0][5]) as (_, seen):
        assert seen == 1
        held.clear()
        gc.collect()
        mappings.tidy()
        assert not is_free(segment)
        # what this process reads meanwhile is a mapping of its own
        again = load(mappings, segment)
        del again
        assert not is_free(segment)
    mappings.tidy()
    assert is_free(segment)


def test_the_copy_lets_go(pool, mappings):
    """A value that ends in a copy of this process is still locked in this process."""
    segment = pool.write([large(1)])
    loaded = load(mappings, segment)

    def drop():
        nonlocal loaded
        del loaded
        gc.collect()
        mappings.tidy()
        return len(mappings._all)

    with copy(drop) as (_, left):
        assert left == 0
    assert not is_free(segment)
    assert bytes(loaded[0]) == large(1)


def test_what_a_copy_shares_is_not_kept(pool, mappings):
    """What a copy shares goes with its value, wherever it stands among what is kept."""
    first, second = pool.write([large(1)]), pool.write([large(2)])
    held = load(mappings, first)
    with copy():
        fresh = load(mappings, second)
        again = load(mappings, first)  # beside the shared one
        del fresh, again
        del held
        assert not any(each.is_shared for each in mappings._all.values())
    assert is_free(first)


def test_a_copy_of_many_threads(pool, mappings):
    """A copy can load values although a thread that is not in it was loading one."""
    segment = pool.write([large(1)])
    place = segment.place()
    with mappings._lock, copy(lambda: mappings.load(os.getpid(), place)[0][0]) as (_, seen):
        assert seen == 1


def test_descriptors_that_became_somebody_elses(pool, mappings, tmp_path):
    """A kept mapping whose descriptor user code has closed is not taken for locked."""
    segment = pool.write([large(1)])
    load(mappings, segment)
    (mapping,) = mappings._all.values()
    fd = mapping.segment.file.fd
    del mapping
    os.close(fd)
    (tmp_path / "users").write_bytes(b"mine")
    users = os.open(tmp_path / "users", os.O_RDWR)
    assert users == fd
    loaded = load(mappings, segment)
    assert not is_free(segment)
    assert bytes(loaded[0]) == large(1)
    del loaded
    gc.collect()
    assert is_free(segment)
    mappings.tidy()
    assert os.pread(users, 10, 0) == b"mine"
    os.close(users)


def test_ends_within_a_load(pool, mappings):
    """A value that ends while this thread is in `Mappings`, by the garbage collector, may."""
    segments = [pool.write([large(each)]) for each in range(3)]
    loaded = [load(mappings, each) for each in segments]
    real = mappings._mapping

    def collecting(segment):
        loaded[:2] = []
        gc.collect()
        return real(segment)

    mappings._mapping = collecting
    mappings.kept_bytes = 0
    more = load(mappings, segments[0])
    mappings._mapping = real
    assert bytes(more[0]) == large(0)
    assert bytes(loaded[0][0]) == large(2)
    assert list(map(is_free, segments)) == [False, True, False]
    assert len(mappings._all) == 2


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=30), st.booleans())
def test_any_lengths(lengths, is_large):
    """`Mappings.load` gives what `SegmentPool.write` was given, of any lengths."""
    if is_large:
        lengths = [*lengths, SIZE]
    chunk = array.array("I", range(sum(lengths) // 4 + 1)).tobytes()
    written = []
    for each in lengths:
        written.append(chunk[:each])
        chunk = chunk[each:]
    loaded = load(READER, WRITER.write(written))
    assert list(map(bytes, loaded)) == written


READER, WRITER = Mappings(), SegmentPool()


def test_threads(pool, mappings):
    """`Mappings` gives each thread its value, while others' come and go."""
    problems = []
    begin = threading.Barrier(4)
    mappings.kept_bytes = 2 * (SIZE + 128)

    def work(number):
        begin.wait()
        for turn in range(40):
            byte = number * 40 + turn
            segment = pool.write([large(byte)])
            held = load(mappings, segment), load(mappings, segment)
            del segment
            if any(bytes(each[0]) != large(byte) for each in held):
                problems.append(byte)
            if turn % 10 == 0:
                mappings.tidy()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not problems
    assert all(not each.users for each in mappings._all.values())


def test_reopened_elsewhere(pool, mappings):
    """A description that only reads neither ends nor takes part in the locks of others."""
    segment = pool.write([large(1)])
    loaded = load(mappings, segment)
    del loaded
    reader = File(reopen(os.getpid(), segment.file.fd))
    assert is_free(segment)
    del reader
