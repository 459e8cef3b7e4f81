"""`Nanny`: a worker whose tasks run in a child process that it watches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted_dist.services.child_executor import ChildExecutor, ChildOptions
from twisted_dist.services.executor import Executor
from twisted_dist.services.memory import memory_limit as bytes_of
from twisted_dist.services.worker import Worker


class Nanny(Worker):
    """A `Worker` whose tasks run in a supervised child process.

    This process never runs or unpickles anything of the user's. A task that ends its
    process costs that process, which is started again, and nothing that is held here.

    Args:
        scheduler: and all further arguments, as of `Worker`.
        memory_limit: of the child: bytes, or as text ``"4GiB"``, ``"0.5"`` (of this machine's
            memory), ``"auto"`` (its memory, by this worker's share of its cores), ``"0"`` (none).
            A child that uses more is ended, and what it was running is told why.
        recycle_after: tasks after which another child takes the place of the first, when that
            has nothing to run; 0 for never. For code that leaks.
        preload: modules that a child imports before it runs tasks.

    Raises:
        UsageProblem: *memory_limit* cannot be read.
    """

    kind = "nanny"

    def __init__(
        self,
        scheduler: str,
        *args: Any,
        memory_limit: int | str = "auto",
        recycle_after: int = 0,
        preload: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        self._memory_limit = memory_limit
        self._recycle_after = recycle_after
        self._preload = tuple(preload)
        super().__init__(scheduler, *args, **kwargs)

    def _make_executor(self) -> Executor:
        limit = bytes_of(self._memory_limit, self.nthreads)
        options = ChildOptions(limit, self._recycle_after, self._preload)
        return ChildExecutor(self.reactor, self.nthreads, options)
