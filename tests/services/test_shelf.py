"""The scheduler's uploads: who is told, who waits for whom, and what is refused."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_dist.execution import upload_rules
from twisted_dist.execution.upload_rules import MAX_UPLOAD_BYTES, MAX_UPLOADS, MIB, digest_of
from twisted_dist.services import shelf as shelf_module
from twisted_dist.services.shelf import Shelf
from twisted_dist.wire import schema

FROM_SCHEDULER = (schema.UPLOADS.number, schema.UPLOAD_PIECE.number)
MORE = {"wanted": True, "failed": "", "late": []}
DONE = {"wanted": False, "failed": "", "late": []}


class Desk:
    """A shelf, and what it says."""

    def __init__(self):
        self.clock = Clock()
        self.told = []
        self.replies = []
        self.shelf = Shelf(self.clock, self._tell, self._reply, "worker-{}".format)
        self._request = 0

    def _tell(self, worker, payload):
        number, fields = schema.decode(payload, FROM_SCHEDULER)
        self.told.append((worker, schema.BY_NUMBER[number].name, fields))

    def _reply(self, client, request, error, result):
        self.replies.append((client, error or result))

    def heard(self):
        """What was said since the last time: ``(worker, message, its fields)``."""
        told, self.told = self.told, []
        return told

    def answers(self):
        """What clients were answered since the last time."""
        replies, self.replies = self.replies, []
        return replies

    def ask(self, what, name, blob, number, client=1, timeout=5.0):
        """A client asks."""
        self._request += 1
        fields = {"request": self._request, "what": what, "name": name, "blob": blob}
        fields |= {"number": number, "ids": [], "timeout_s": timeout}
        return self.shelf.asked(client, fields)

    def upload(self, name, blob, client=1):
        """A client uploads, in one piece."""
        self.ask("upload", name, digest_of(blob), len(blob), client)
        if self.replies[-1:] == [(client, MORE)]:
            self.replies.pop()
            self.ask("upload-piece", name, blob, 0, client)

    def confirm(self, worker, number, error=""):
        """A worker says that it has one."""
        self.shelf.uploaded(worker, {"number": number, "error": error})


@pytest.fixture
def desk():
    """One with two workers; no call may be left."""
    made = Desk()
    made.shelf.worker_joined(1)
    made.shelf.worker_joined(2)
    yield made
    made.shelf.close()
    assert made.clock.getDelayedCalls() == []


def listed(number, name, blob):
    """What workers are told of one upload."""
    return {
        "numbers": [number],
        "names": [name],
        "digests": [digest_of(blob)],
        "sizes": [len(blob)],
    }


def test_pieces_there_and_back(desk):
    """`Shelf` takes pieces in order, tells workers, and gives each the pieces it asks for."""
    blob = b"ab" * MIB + b"end"
    desk.ask("upload", "a.csv", digest_of(blob), len(blob))
    for start in range(0, len(blob), MIB):
        assert desk.answers() == [(1, MORE)]
        assert desk.heard() == []
        desk.ask("upload-piece", "a.csv", blob[start : start + MIB], start)
    assert desk.answers() == []
    fields = listed(1, "a.csv", blob)
    assert desk.heard() == [(1, "uploads", fields), (2, "uploads", fields)]
    got = b""
    while len(got) < len(blob):
        desk.shelf.piece_wanted(2, {"number": 1, "offset": len(got)})
        ((worker, _, piece),) = desk.heard()
        assert (worker, piece["offset"]) == (2, len(got))
        got += piece["blob"]
    assert got == blob
    desk.confirm(2, 1)
    assert desk.answers() == []
    desk.confirm(1, 1)
    assert desk.answers() == [(1, DONE)]


def test_the_same_is_not_sent_again(desk):
    """`Shelf` wants what it has from nobody, and waits for workers that have it not yet."""
    desk.upload("a.py", b"a")
    desk.confirm(1, 1)
    desk.heard()
    desk.upload("a.py", b"a", client=2)
    assert desk.heard() == []
    desk.confirm(2, 1)
    assert desk.answers() == [(1, DONE), (2, DONE)]
    desk.upload("a.py", b"a")
    assert desk.answers() == [(1, DONE)]


def test_two_clients_at_a_time(desk):
    """`Shelf` keeps the second of two uploads of a name, and tells the first."""
    desk.ask("upload", "a.py", digest_of(b"1"), 1, client=1)
    desk.ask("upload", "a.py", digest_of(b"2"), 1, client=2)
    desk.ask("upload-piece", "a.py", b"1", 0, client=1)
    desk.ask("upload-piece", "a.py", b"2", 0, client=2)
    assert desk.answers()[2:] == [(1, "another upload of a.py has taken the place of this one")]
    desk.confirm(1, 1)  # of the first: too late to count
    desk.confirm(2, 2)
    assert desk.answers() == []
    desk.confirm(1, 2)
    assert desk.answers() == [(2, DONE)]


def test_who_joins_and_who_leaves(desk):
    """`Shelf` waits for nobody that is gone or came later; who comes later is told at once."""
    desk.upload("a.py", b"a")
    desk.heard()
    desk.shelf.worker_joined(3)
    assert desk.heard() == [(3, "uploads", listed(1, "a.py", b"a"))]
    desk.confirm(1, 1)
    desk.shelf.worker_gone(2)
    assert desk.answers() == [(1, DONE)]
    desk.upload("a.py", b"a")
    assert desk.answers() == []  # for the third
    desk.shelf.worker_gone(3)
    assert desk.answers() == [(1, DONE)]


def test_a_worker_that_cannot(desk):
    """`Shelf` names the worker and its reason in one line; who tries again, has all asked anew."""
    desk.upload("a.zip", b"a")
    desk.confirm(1, 1, "no space\nleft " + "!" * 1000)
    ((_, answer),) = desk.answers()
    assert answer["failed"].startswith("worker-1: no space left !!")
    assert len(answer["failed"]) < 600
    desk.confirm(2, 1)
    desk.heard()
    desk.upload("a.zip", b"a")
    assert [fields["numbers"] for _, _, fields in desk.heard()] == [[2], [2]]
    desk.confirm(1, 2)
    desk.confirm(2, 2)
    assert desk.answers() == [(1, DONE)]


def test_a_worker_that_takes_too_long(desk):
    """`Shelf` says who is late."""
    desk.upload("a.py", b"a")
    desk.confirm(1, 1)
    desk.clock.advance(5.0)
    assert desk.answers() == [(1, {**DONE, "late": ["worker-2"]})]
    desk.confirm(2, 1)
    assert desk.answers() == []


def test_a_client_that_leaves(desk):
    """`Shelf` forgets what a client was sending, and waits for."""
    desk.upload("a.py", b"a")
    desk.ask("upload", "b.py", digest_of(b"bb"), 2)
    desk.answers()
    desk.shelf.client_gone(1)
    desk.confirm(1, 1)
    desk.confirm(2, 1)
    assert desk.answers() == []
    desk.ask("upload-piece", "b.py", b"bb", 0)
    assert "upload it again" in desk.answers()[0][1]


def test_a_restart(desk):
    """`Shelf` forgets everything at a restart, which goes on to the core."""
    desk.upload("a.py", b"a")
    desk.heard()
    assert desk.ask("restart", "", b"", 0) is False
    assert desk.answers() == [(1, "the network was restarted: a.py is forgotten")]
    desk.shelf.worker_joined(3)
    assert desk.heard() == []
    assert desk.ask("publish", "a", b"", 0) is False


@pytest.mark.parametrize("name", ["", "../a.py", "/etc/a", "a/b", "a\0", "x" * 300, "os.py"])
def test_names(desk, name):
    """`Shelf` refuses what is no name, whatever the client has checked."""
    desk.ask("upload", name, digest_of(b""), 0)
    ((_, error),) = desk.answers()
    assert isinstance(error, str)
    assert "\n" not in error
    assert desk.heard() == []


def test_sizes(desk):
    """`Shelf` refuses what is too large, is not what was said, or comes out of turn."""
    for size, digest in ((MAX_UPLOAD_BYTES + 1, bytes(32)), (-1, bytes(32)), (1, b"")):
        desk.ask("upload", "a", digest, size)
        assert "64 MiB at most" in desk.answers()[0][1]
    for pieces, why in (
        ([(b"abc", 0)], "another size"),
        ([(b"", 0)], "another size"),
        ([(b"a", 0), (b"b", 0)], "upload it again"),
        ([(b"bb", 0)], "damaged"),
    ):
        desk.ask("upload", "a", digest_of(b"aa"), 2)
        for blob, offset in pieces:
            assert desk.answers() == [(1, MORE)]
            desk.ask("upload-piece", "a", blob, offset)
        assert why in desk.answers()[0][1]
        desk.ask("upload-piece", "a", b"aa", 0)
        assert "no such piece" in desk.answers()[0][1]
    assert desk.heard() == []


def test_an_empty_file(desk):
    """`Shelf` takes and gives what has no bytes."""
    desk.upload("py.typed", b"")
    desk.heard()
    desk.shelf.piece_wanted(1, {"number": 1, "offset": 0})
    assert desk.heard() == [(1, "upload-piece", {"number": 1, "offset": 0, "blob": b""})]


def test_all_together(desk, monkeypatch):
    """`Shelf` bounds what it keeps and what is under way; the same name takes no more room."""
    monkeypatch.setattr(shelf_module, "MAX_TOTAL_BYTES", 2 * MIB)
    desk.upload("a", b"a" * MIB)
    desk.ask("upload", "b", digest_of(b"b"), MIB)
    desk.answers()
    desk.ask("upload", "c", digest_of(b"c"), 1, client=2)
    assert "keeps 1000 uploads and 2 MiB at most, and has 1 and 2 MiB" in desk.answers()[0][1]
    desk.ask("upload", "a", digest_of(b"c"), MIB, client=2)
    assert desk.answers() == [(2, MORE)]
    assert upload_rules.MAX_TOTAL_BYTES == 256 * MIB


def test_how_many(desk):
    """`Shelf` bounds the number of names."""
    for n in range(MAX_UPLOADS):
        desk.upload(f"{n}", b"")
    desk.answers()
    desk.upload("one more", b"")
    assert "no room for one more" in desk.answers()[0][1]


def test_a_worker_gets_each_piece_once(desk):
    """`Shelf` has no worker fill its memory with the same piece."""
    desk.upload("a", b"abc")
    desk.heard()
    for number, offset in ((1, 0), (1, 0), (1, 3), (1, 1), (1, -1), (7, 0)):
        desk.shelf.piece_wanted(1, {"number": number, "offset": offset})
    assert [(number, piece["blob"]) for number, _, piece in desk.heard() if piece["blob"]] == [
        (1, b"abc")
    ]
