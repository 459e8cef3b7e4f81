"""What clients have uploaded, as the scheduler keeps it: bytes by name, never looked into.

A client asks (``upload``: name, digest, size) and, unless the same is here already, sends the
bytes in pieces, each answered before the next. Then all workers are told what there is now
(``uploads``), and each gets what it lacks, as slowly as it likes: it asks for every piece. The
client is answered when all workers that were there have said that they have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from twisted_dist.errors import RefusedError, UsageProblem
from twisted_dist.execution.upload_rules import (
    DIGEST_BYTES,
    MAX_TOTAL_BYTES,
    MAX_UPLOAD_BYTES,
    MAX_UPLOADS,
    MIB,
    PIECE_BYTES,
    check_name,
)
from twisted_dist.wire import schema

#: characters of a worker's reason that a client is told
_MOST_TOLD: Final = 500


class _Upload:
    """What is kept under a name."""

    def __init__(self, number: int, name: str, digest: bytes, data: bytes) -> None:
        #: by which workers ask for it and confirm it; another one when they are to do so again
        self.number = number
        self.name = name
        self.digest = digest
        self.data = data
        #: workers that have it
        self.held_by: set[int] = set()
        #: some worker could not take it
        self.has_failed = False


class _Transfer:
    """What a client is sending."""

    def __init__(self, digest: bytes, size: int) -> None:
        self.digest = digest
        self.size = size
        self.data = bytearray()
        self.hash = hashlib.sha256()


class _Waiter:
    """A client that waits until workers have an upload."""

    def __init__(self, client: int, request: int, upload: _Upload, pending: set[int]) -> None:
        self.client = client
        self.request = request
        self.upload = upload
        self.pending = pending
        self.timer: Any = None


class Shelf:
    """Takes uploads from clients, gives them to workers.

    Args:
        reactor: for the bound on what a client waits.
        tell_worker: sends a payload to a worker, by its number.
        reply: answers a client: its number, the request, an error or "", the result.
        name_of: what a worker is called.
    """

    def __init__(
        self,
        reactor: Any,
        tell_worker: Callable[[int, bytes], None],
        reply: Callable[[int, int, str, Any], None],
        name_of: Callable[[int], str],
    ) -> None:
        self._reactor = reactor
        self._tell_worker = tell_worker
        self._reply = reply
        self._name_of = name_of
        self._kept: dict[str, _Upload] = {}
        self._numbers = count(1)
        #: {worker: {number of an upload: bytes of it that were sent there}}
        self._workers: dict[int, dict[int, int]] = {}
        #: {(client, name): what comes}
        self._transfers: dict[tuple[int, str], _Transfer] = {}
        self._waiters: list[_Waiter] = []

    # -- clients

    def asked(self, client: int, fields: dict[str, Any]) -> bool:
        """A client asks for an operation; whether that is answered here."""
        what = fields["what"]
        if what == "restart":
            self._clear()
        if what not in ("upload", "upload-piece"):
            return False
        take = self._begin if what == "upload" else self._take_piece
        try:
            take(client, fields)
        except (RefusedError, UsageProblem) as problem:
            self._transfers.pop((client, fields["name"]), None)
            self._reply(client, fields["request"], str(problem), None)
        return True

    def _begin(self, client: int, fields: dict[str, Any]) -> None:
        name, digest, size = fields["name"], fields["blob"], fields["number"]
        check_name(name)
        if len(digest) != DIGEST_BYTES or not 0 <= size <= MAX_UPLOAD_BYTES:
            raise RefusedError(f"an upload has {MAX_UPLOAD_BYTES // MIB} MiB at most, and a digest")
        self._transfers.pop((client, name), None)
        kept = self._kept.get(name)
        if kept is not None and kept.digest == digest:
            self._settle(client, fields, kept)
            return
        names = {*self._kept, *(each for _, each in self._transfers), name}
        used = sum(len(each.data) for each in self._kept.values() if each.name != name)
        used += sum(each.size for each in self._transfers.values())
        if used + size > MAX_TOTAL_BYTES or len(names) > MAX_UPLOADS:
            raise RefusedError(
                f"no room for {name}: the scheduler keeps {MAX_UPLOADS} uploads and "
                f"{MAX_TOTAL_BYTES // MIB} MiB at most, and has {len(self._kept)} and "
                f"{used // MIB} MiB; client.restart() forgets them"
            )
        self._transfers[client, name] = _Transfer(digest, size)
        self._answer(client, fields["request"], wanted=True)

    def _take_piece(self, client: int, fields: dict[str, Any]) -> None:
        name, piece = fields["name"], fields["blob"]
        transfer = self._transfers.get((client, name))
        if transfer is None or fields["number"] != len(transfer.data):
            raise RefusedError(f"no such piece of {name[:80]!r} is awaited: upload it again")
        transfer.data += piece
        transfer.hash.update(piece)
        left = transfer.size - len(transfer.data)
        if left < 0 or (left and not piece):
            raise RefusedError(f"{name} has another size than was said")
        if left:
            self._answer(client, fields["request"], wanted=True)
            return
        if transfer.hash.digest() != transfer.digest:
            raise RefusedError(f"{name} came damaged, or was changed meanwhile: upload it again")
        del self._transfers[client, name]
        self._settle(client, fields, self._put(name, transfer))

    def _put(self, name: str, transfer: _Transfer) -> _Upload:
        kept = self._kept.get(name)
        if kept is not None and kept.digest == transfer.digest:  # another client was quicker
            return kept
        upload = _Upload(next(self._numbers), name, transfer.digest, bytes(transfer.data))
        self._kept[name] = upload
        for each in [each for each in self._waiters if each.upload is kept]:
            self._end(each, f"another upload of {name} has taken the place of this one")
        self._announce()
        return upload

    def _settle(self, client: int, fields: dict[str, Any], upload: _Upload) -> None:
        """Answer when all workers that are there have it."""
        if upload.has_failed:
            upload.has_failed = False
            upload.number = next(self._numbers)
            upload.held_by.clear()
            self._announce()
        pending = self._workers.keys() - upload.held_by
        waiter = _Waiter(client, fields["request"], upload, pending)
        self._waiters.append(waiter)
        if not pending:
            self._end(waiter)
        elif fields["timeout_s"] >= 0:
            waiter.timer = self._reactor.callLater(fields["timeout_s"], self._expire, waiter)

    def _expire(self, waiter: _Waiter) -> None:
        self._end(waiter, late=sorted(map(self._name_of, waiter.pending)))

    def _end(
        self, waiter: _Waiter, error: str = "", failed: str = "", late: list[str] | None = None
    ) -> None:
        self._drop(waiter)
        self._answer(waiter.client, waiter.request, error, failed=failed, late=late)

    def _drop(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()

    def _answer(
        self,
        client: int,
        request: int,
        error: str = "",
        *,
        wanted: bool = False,
        failed: str = "",
        late: list[str] | None = None,
    ) -> None:
        result = {"wanted": wanted, "failed": failed, "late": late or []}
        self._reply(client, request, error, None if error else result)

    def client_gone(self, client: int) -> None:
        """It waits for nothing, and sends nothing, any more."""
        for each in [each for each in self._waiters if each.client == client]:
            self._drop(each)
        for key in [key for key in self._transfers if key[0] == client]:
            del self._transfers[key]

    # -- workers

    def worker_joined(self, worker: int) -> None:
        """A worker has registered: it is told before its first task."""
        self._workers[worker] = {}
        if self._kept:
            self._tell_worker(worker, self._list())

    def worker_gone(self, worker: int) -> None:
        """It is not waited for any more."""
        self._workers.pop(worker, None)
        for each in self._kept.values():
            each.held_by.discard(worker)
        self._no_longer_pending(worker, list(self._waiters))

    def _no_longer_pending(self, worker: int, waiters: list[_Waiter]) -> None:
        for each in waiters:
            if worker in each.pending:
                each.pending.discard(worker)
                if not each.pending:
                    self._end(each)

    def _list(self) -> bytes:
        kept = list(self._kept.values())
        return schema.UPLOADS.pack(
            [each.number for each in kept],
            [each.name for each in kept],
            [each.digest for each in kept],
            [len(each.data) for each in kept],
        )

    def _announce(self) -> None:
        for worker in list(self._workers):
            self._tell_worker(worker, self._list())

    def _numbered(self, number: int) -> _Upload | None:
        return next((each for each in self._kept.values() if each.number == number), None)

    def piece_wanted(self, worker: int, fields: dict[str, Any]) -> None:
        """A worker asks for the next piece: each once, so that nobody has this memory filled."""
        number, offset = fields["number"], fields["offset"]
        upload, sent = self._numbered(number), self._workers.get(worker)
        if upload is None or sent is None or sent.get(number, 0) != offset:
            return
        piece = upload.data[offset : offset + PIECE_BYTES]
        sent[number] = offset + max(1, len(piece))
        self._tell_worker(worker, schema.UPLOAD_PIECE.pack(number, offset, piece))

    def uploaded(self, worker: int, fields: dict[str, Any]) -> None:
        """A worker has an upload, or cannot take it."""
        upload = self._numbered(fields["number"])
        if upload is None or worker not in self._workers:
            return
        waiters = [each for each in self._waiters if each.upload is upload]
        if fields["error"]:
            upload.has_failed = True
            why = " ".join(fields["error"].split())[:_MOST_TOLD]
            for each in waiters:
                self._end(each, failed=f"{self._name_of(worker)}: {why}")
            return
        upload.held_by.add(worker)
        self._no_longer_pending(worker, waiters)

    # -- the end

    def _clear(self) -> None:
        """A restart: workers forget what they have, and so does this."""
        self._kept.clear()
        self._transfers.clear()
        for each in list(self._waiters):
            self._end(each, f"the network was restarted: {each.upload.name} is forgotten")

    def close(self) -> None:
        """Wait for nothing."""
        for each in list(self._waiters):
            self._drop(each)
