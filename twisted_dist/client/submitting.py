"""Turns calls into tasks: ids, names, pickles, and their place in the outbox."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from twisted_dist.aliases import CLIENT_SHIFT, Digest, TaskId
from twisted_dist.client.future import BaseFuture, Record
from twisted_dist.client.graphs import PickledGraph
from twisted_dist.client.journal import Journal
from twisted_dist.client.options import WireOptions
from twisted_dist.client.outbox import Batch, Outbox
from twisted_dist.client.pickling import CallPickler, Calls, FunctionTable, function_name
from twisted_dist.client.records import Records
from twisted_dist.errors import UsageProblem
from twisted_dist.wire import schema

#: calls that are sent before any more are pickled, and that are sent at a time later: about a
#: frame of a megabyte
FIRST_PART: Final = 1024
LAST_PARTS: Final = 16384
#: bytes of calls after which a part ends, however few they are
PART_BYTES: Final = 8 * 2**20
#: how many tasks and bytes are submitted between two looks whether there is room for more
LOOK_TASKS: Final = 1000
LOOK_BYTES: Final = 2**20


class Submitter:
    """Submits tasks of one session, from any thread.

    Args:
        outbox: where they go.
        records: what keeps track of them.
        wake: called when something is in the outbox.
        drop: called with the id of a task that nobody will have a future of.
        journal: keeps what was said.
        make_room: called before there is much more; blocks while there is too much.
    """

    def __init__(
        self,
        outbox: Outbox,
        records: Records,
        wake: Callable[[], None],
        drop: Callable[[TaskId], None],
        journal: Journal,
        make_room: Callable[[], None],
    ) -> None:
        #: the client's, known from the scheduler's welcome on
        self.index = 0
        self._next = 0
        #: ids that nothing will be told of: inner tasks of graphs
        self._inner = 0
        self._look_at = 0
        self._lock = threading.Lock()
        self._outbox = outbox
        self._records = records
        self._wake = wake
        self._drop = drop
        self._journal = journal
        self._make_room = make_room
        self._functions = FunctionTable(self._define)
        self._calls = CallPickler()

    def _define(self, digest: Digest, name: str, blob: bytes) -> None:
        payload = schema.FUNCTION.pack(digest, name, blob)
        self._journal.add_function(digest, payload)
        self._outbox.put(payload)

    @property
    def submitted(self) -> int:
        """How many tasks, and data, of which something is to be told."""
        return self._next - self._inner

    def take_ids(self, count: int, inner: int = 0) -> TaskId:
        """The first of *count* new ids, of which *inner* are told of to nobody."""
        with self._lock:
            first = (self.index << CLIENT_SHIFT) + self._next
            self._next += count
            self._inner += inner
        return first

    def make_room(self) -> None:
        """Block while there is too much under way (`client.flow`), if it is time to look."""
        if self._next >= self._look_at or self._outbox.nbytes > LOOK_BYTES:
            self._make_room()
            self._look_at = self._next + LOOK_TASKS

    def collect(self, task_id: TaskId, future: object) -> int | None:
        """While a call of this client is pickled: note a future among its arguments.

        Its position among the call's inputs; None where no call is being pickled.
        """
        if task_id >> CLIENT_SHIFT != self.index:
            return None
        return self._calls.note(task_id, future)

    def submit(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
        options: WireOptions,
        keys: Sequence[str] | None = None,
        pure: bool = False,
    ) -> list[Record]:
        """Submit calls of one function.

        Many are sent in parts, so that the first ones run while the last are pickled. Between
        parts it waits while there is too much under way.

        Args:
            function: theirs.
            calls: ``(args, kwargs)`` of each.
            options: see `client.options`.
            keys: a name for each; what has a name is computed once.
            pure: name them by what they compute.

        Raises:
            UsageProblem: the arguments of one are too large, or there are not as many keys.
                What was sent by then is released.
        """
        digest = self._functions.digest(function)
        name = function_name(function)
        if keys is not None:
            calls = list(calls)
            if len(keys) != len(calls):
                raise UsageProblem(f"{len(keys)} keys for {len(calls)} tasks")
        records: list[Record] = []
        rest = iter(calls)
        most = FIRST_PART
        try:
            while True:
                if self._next >= self._look_at or self._outbox.nbytes > LOOK_BYTES:
                    self.make_room()
                pickled = self._calls.pickle(name, islice(rest, most), PART_BYTES)
                names = keys and keys[len(records) : len(records) + len(pickled.blobs)]
                part = self._submit_part(digest, name, pickled, options, names, pure)
                records += part
                if len(part) < most and pickled.nbytes <= PART_BYTES:
                    return records
                most = min(2 * most, LAST_PARTS)
        except BaseException:  # whatever it was, nobody has a future of these
            for record in records:
                self._drop(record.id)
            raise

    def _submit_part(
        self,
        digest: Digest,
        name: str,
        pickled: Calls,
        options: WireOptions,
        keys: Sequence[str] | None,
        pure: bool,
    ) -> list[Record]:
        if keys is None and pure:
            keys = self._pure_keys(name, digest, pickled)
        count = len(pickled.blobs)
        if not count:
            return []
        first = self.take_ids(count)
        with self._journal.lock:
            records = self._records.make(first, count, name, keys)
            batch = self._outbox.add(first, options, digest, pickled, keys)
            for record in records:
                record.origin = batch
            if pickled.any_deps:
                needed = {record.origin for record in self._needed(pickled.deps)}
                batch.needs.update(needed - {batch, None})
        self._wake()
        return records

    def _needed(self, deps: Iterable[Sequence[TaskId]]) -> list[Record]:
        return self._records.known({each for row in deps for each in row})

    def _pure_keys(self, name: str, digest: Digest, pickled: Calls) -> list[str]:
        """Names by content: the function, the arguments, and the inputs by their own names."""
        keys = []
        for blob, deps in zip(pickled.blobs, pickled.deps):
            content = hashlib.blake2b(digest, digest_size=16)
            content.update(blob)
            for each in deps:
                content.update(self._records[each].key.encode())
            keys.append(f"{name}-{content.hexdigest()}")
        return keys

    def wrap(self, what: str, value: Any) -> Calls:
        """A value as a call with it for an argument, so that futures in it are found.

        Raises:
            UsageProblem: it is too large.
        """
        return self._calls.pickle(what, [((value,), {})])

    def submit_graph(
        self, graph: PickledGraph, options: WireOptions, data: Sequence[BaseFuture]
    ) -> list[Record]:
        """Submit a whole graph, whose large *data* is on workers by now.

        Returns:
            Records of its outputs, in their order.
        """
        self.make_room()
        first = self.take_ids(len(graph.calls), len(graph.calls) - len(graph.outputs))
        batch = Batch(first, options, shared=False)
        for function in graph.functions:
            batch.digests.append(self._functions.digest(function))
        batch.which, batch.keys = graph.which, graph.keys
        batch.calls = graph.calls
        batch.deps = [[first + each for each in deps] for deps in graph.deps]
        if data:
            ids = [each._record.id for each in data]
            batch.deps = [[n + first if n >= 0 else ids[~n] for n in deps] for deps in graph.deps]
        batch.any_deps = any(graph.deps)
        batch.wanted = graph.outputs
        records = [Record(first + n, graph.keys[n]) for n in graph.outputs]
        batch.needs.update(each._record.origin for each in data)
        batch.needs.discard(None)
        with self._journal.lock:
            for record in records:
                record.origin = batch
                self._records.add(record)
            self._outbox.put(batch)
        self._wake()
        return records
