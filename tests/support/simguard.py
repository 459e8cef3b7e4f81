"""`Guard`: what a scheduler promises of locks, variables, copies and restarts, seen from within.

It looks after each stimulus, beside `core.invariants`.
"""

from __future__ import annotations

from twisted_dist.core import instructions as i
from twisted_dist.core import stimuli as s
from twisted_dist.core.coordination.semaphores import LEASE_S
from twisted_dist.core.task import ERRED, MEMORY


class Guard:
    """Looks at a `SchedulerCore`.

    * Tokens only grow, and no semaphore has more holders than leases, nor waiters beside a
      free lease; all holders are there.
    * A lease ends where it was given back, its client is gone, the network was restarted, or
      it was not renewed for so long.
    * What is set with a fence was set by a holder, and by a newer one than before.
    * `replicate` is answered when the copies are there, and where nobody does anything, all
      replicated tasks have theirs.
    * What one client puts into a queue comes out in that order, and nothing is lost there.
    * A thread is used by who says so.
    * After a restart nothing of before is left.

    Args:
        core: the scheduler's.
        say: told what is wrong.

    Attributes:
        tokens: {token of a lease that is held: (semaphore's name, client's id)}.
        ended: {token: why it is not held any more}.
        on_restart: called at each.
        on_look: called after each stimulus; gives what else is wrong.
    """

    def __init__(self, core, say):
        self._core = core
        self._say = say
        self._last = core.coordination.semaphores._last_token
        self._renewed = {}
        self._granted = {}
        self._fences = {}
        self._replicating = {}
        self._puts = {}
        self._handed = set()
        self._order = {}
        self._offered = {}
        self._owed = set()
        self.tokens = {}
        self.ended = {}
        self.on_restart = lambda: None
        self.on_look = lambda: ()

    def before(self, what):
        """A stimulus is about to be taken in: an object, or the instant of `expire`."""
        if isinstance(what, s.Asked) and what.client in self._core.state.clients:
            if what.what == "replicate":
                client = self._core.state.clients[what.client]
                tasks = self._core._futures.own(client, what.ids)
                self._replicating[what.client, what.request] = tasks, what.number
            elif what.what == "queue-got":
                handed = self._core.coordination.queues._handed.get(what.number)
                if handed is not None and handed[0].id == what.client:
                    self._owed.discard(handed[2].blob)
        elif isinstance(what, s.ClientLost):
            gone = [each for each in self._replicating if each[0] == what.client]
            for each in gone:
                del self._replicating[each]

    def after(self, what):
        """It was taken in."""
        if isinstance(what, s.Asked):
            if what.what == "renew":
                self._renewed[what.client] = self._core.state.now
            elif what.what == "queue-put":
                self._puts[what.blob] = what.client, what.request
                self._offered[what.client, what.request] = what.blob
            elif what.what == "variable-set" and what.number:
                self._look_at_fence(what)
            elif what.what == "restart" and what.client in self._core.state.clients:
                self._look_at_restart()
                self._offered.clear()
                self._owed.clear()
                self.on_restart()
        elif isinstance(what, s.TasksSeceded):
            self._look_at_threads(what)
        semaphores = self._core.coordination.semaphores._by_name
        if semaphores or self.tokens:
            self._look_at_tokens(what, semaphores)
        if self._puts:
            self._look_at_queues(self._core.coordination.queues._handed)
        for told in self.on_look():
            self._say(told)

    # -- locks

    def _look_at_tokens(self, what, semaphores):
        now = {}
        for name, semaphore in semaphores.items():
            if len(semaphore.holders) > semaphore.limit:
                self._say(f"{name} has {len(semaphore.holders)} holders, not {semaphore.limit}")
            if len(semaphore.holders) < semaphore.limit and semaphore.line.first() is not None:
                self._say(f"somebody waits for {name}, and there is a lease")
            for token, client in semaphore.holders.items():
                now[token] = name, client.id
                if self._core.state.clients.get(client.id) is not client:
                    self._say(f"token {token} of {name} is held by client {client.id}: it is gone")
                elif client.leases.get(token) != name or client.lease_alarm is None:
                    self._say(f"nobody looks after token {token} of {name}")
        if now.keys() == self.tokens.keys():
            return
        for token in self.tokens.keys() - now.keys():
            self.ended[token] = self._why_ended(what, token)
        holders = {client for _, client in self.tokens.values()}
        for token in sorted(now.keys() - self.tokens.keys()):
            if token <= self._last:
                self._say(f"token {token} was given after {self._last}")
            self._last = token
            self._granted[token] = self._core.state.now
            if now[token][1] not in holders:
                self._renewed[now[token][1]] = self._core.state.now
                holders.add(now[token][1])
        self.tokens = now

    def _why_ended(self, what, token):
        name, client = self.tokens[token]
        if isinstance(what, s.Asked):
            if what.what == "restart":
                return "restart"
            if what.what == "release" and (what.number, what.client) == (token, client):
                return "released"
        elif isinstance(what, s.ClientLost) and what.client == client:
            return "client lost"
        elif isinstance(what, float):
            if self._renewed[client] + LEASE_S <= what:
                return "expired early" if self._granted[token] + LEASE_S > what else "expired"
            self._say(f"token {token} of {name} has expired, and was renewed")
        self._say(f"token {token} of {name} has ended at {what}")
        return "nothing"

    def _look_at_fence(self, fact):
        parcel = self._core.coordination.variables._values.get(fact.name)
        if parcel is None or parcel.blob is not fact.blob:
            return  # it was refused
        if fact.number not in self.tokens:
            self._say(f"variable {fact.name} was set with token {fact.number}: nobody's")
        if fact.number < self._fences.get(fact.name, 0):
            self._say(f"variable {fact.name} was set by an older holder: {fact.number}")
        self._fences[fact.name] = fact.number

    # -- queues

    def _look_at_queues(self, handed):
        """What one client has put comes out in that order, but for what came back."""
        for number in sorted(handed.keys() - self._handed):
            self._handed.add(number)
            _, name, parcel = handed[number]
            origin = self._puts.get(parcel.blob)
            if origin is None:
                continue  # it was handed out before
            del self._puts[parcel.blob]
            client, request = origin
            if request < self._order.get((name, client), 0):
                self._say(f"{name}: item {request} of client {client} comes late")
            self._order[name, client] = request

    # -- copies

    def decided(self, out):
        """Instructions are about to be done."""
        for each in out:
            if not (self._replicating or self._offered):
                return
            if isinstance(each, i.Reply):
                item = self._offered.pop((each.client, each.request), None)
                if item is not None and each.result is True:
                    self._owed.add(item)
                asked = self._replicating.pop((each.client, each.request), None)
                if asked is not None and not each.error:
                    for told in self._short(dict.fromkeys(asked[0], asked[1])):
                        self._say(f"replicate was answered: {told}")

    def _short(self, wanted):
        """``{task: copies}``: where there are fewer."""
        state = self._core.state
        for task, number in wanted.items():
            if state.replicated.get(task, 1) != number:
                continue  # somebody else has said otherwise
            copies = sum(each.retiring is None for each in task.who_has or ())
            if task.state is MEMORY and copies < min(
                number, len(state.workers) - len(state.retiring)
            ):
                yield f"{task.name} has {copies} copies, not {number}"

    def differences(self):
        """What is not as it must be once all is quiet."""
        state = self._core.state
        yield from self._short(state.replicated)
        yield from (
            f"{task.name} is not known, and replicated"
            for task in state.replicated
            if state.tasks.get(task.id) is not task
        )
        replicas = self._core._replicas
        if state.copying or replicas._moving or replicas._waiting or replicas._movers:
            yield "copies are under way"
        yield from (f"{worker.name} retires for ever" for worker in state.retiring)
        if self._core._retiring.waiting or state.failed_copies or replicas._pausing:
            yield "something of retirements or of copies that failed is left"
        for worker in state.workers.values():
            if worker.fetching:
                yield f"{worker.name} fetches {sorted(worker.fetching)} for ever"
            if worker.busy and not worker.processing:
                yield f"{worker.name} has {worker.busy} busy threads, and nothing to do"

    # -- threads

    def _look_at_threads(self, fact):
        worker = self._core.state.workers.get(fact.worker)
        for task_id, attempt in zip(fact.ids, fact.attempts):
            task = self._core.state.tasks.get(task_id)
            if task is None or worker is None or task.processing_on is not worker:
                continue
            if task.attempt == attempt and (task in worker.seceded) is not fact.waiting:
                self._say(f"{task.name}: whether it uses a thread of {worker.name} is wrong")

    # -- restarts

    def _look_at_restart(self):
        state = self._core.state
        left = [f"{t.name} ({t.state})" for t in state.tasks.values() if t.state is not ERRED]
        left += [worker.name for worker in state.workers.values()]
        left += list(self.things())
        left += [f"client {c.id} waits" for c in state.clients.values() if c.waiters]
        if left:
            self._say(f"is left of before the restart: {', '.join(left)}")

    def things(self):
        """All that clients share by name, and that somebody has left there."""
        there = self._core.coordination
        queues = there.queues
        yield from (f"lock {name}" for name in there.semaphores._by_name)
        yield from (f"event {name}" for name in there.events._set)
        yield from (f"waiting for event {name}" for name in there.events._lines)
        yield from (f"variable {name}" for name in there.variables._values)
        yield from (f"waiting for variable {name}" for name in there.variables._lines)
        yield from (f"queue {name}" for name in queues._by_name)
        yield from (f"item {number} that was handed out" for number in queues._handed)
        yield from (
            f"an item of {p.holder.name} that was offered" for p in queues._offered.values()
        )
        yield from (f"dataset {name}" for name in self._datasets())

    def lost_items(self):
        """Items that are in their queue, it was said, and that nobody has got; at the end."""
        if self._owed:
            yield f"{len(self._owed)} items of queues were lost"

    def _datasets(self):
        asked = self._core._handlers[s.Asked].__self__
        return asked._operations["datasets"].__self__._by_name
