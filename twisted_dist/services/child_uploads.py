"""A nanny's uploads: bytes that it hands to each child, and the directory where that has them.

The nanny neither writes nor imports what was uploaded. It makes the directory, one for each
child, and removes it when that has ended, however it did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer

from twisted_dist.execution import child
from twisted_dist.execution.scratch import Scratch
from twisted_dist.execution.upload_rules import PIECE_BYTES

Send = Callable[[list[Any]], None]


class ChildUploads:
    """What children are to have."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[bytes, bytes]] = {}
        #: {name: the digest that was added last, who waits until a child has it}
        self._asked: dict[str, tuple[bytes, defer.Deferred[str]]] = {}
        self._scratch: Scratch | None = None

    def add(self, name: str, digest: bytes, blob: bytes, send: Send | None) -> defer.Deferred[str]:
        """Keep an upload for all children, and send it to the one that is there.

        Fires with what is wrong, or "", when a child has it.
        """
        self._blobs[name] = digest, blob
        done: defer.Deferred[str] = defer.Deferred()
        self._asked[name] = digest, done
        if send is not None:
            self._give(name, send)
        return done

    def begin(self, send: Send) -> None:
        """A child has started: it gets all, before its first task."""
        for name in self._blobs:
            self._give(name, send)

    def _give(self, name: str, send: Send) -> None:
        digest, blob = self._blobs[name]
        try:
            self._scratch = self._scratch or Scratch()
        except OSError as problem:
            self.confirmed(name, digest, f"no temporary directory: {problem}")
        else:
            for start in range(0, max(1, len(blob)), PIECE_BYTES):
                end = start + PIECE_BYTES
                place = str(self._scratch.path)
                send([child.UPLOAD, name, digest, blob[start:end], end >= len(blob), place])

    def confirmed(self, name: str, digest: bytes, error: str) -> None:
        """A child has it, or cannot."""
        asked = self._asked.get(name)
        if asked is not None and asked[0] == digest:
            del self._asked[name]
            asked[1].callback(error)

    def forget(self, send: Send | None) -> None:
        """No child is to have any of them."""
        self._blobs.clear()
        self._asked.clear()
        if send is not None:
            send([child.FORGET_UPLOADS])

    def ended(self) -> None:
        """The child has ended."""
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None
