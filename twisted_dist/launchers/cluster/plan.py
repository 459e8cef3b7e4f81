"""`Plan`: which daemon is to run on which host; pure.

As in 2016, the scheduler is on the first host and workers are on all, the first included;
who is named twice has two workers. A line of the hostfile can say otherwise with ``role=``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from twisted_dist.address import DEFAULT_PORT
from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.hosts.spec import HostSpec, Role


@frozen(kw_only=True)
class WorkerOptions:
    """What workers are started with, unless their host's line says otherwise.

    Attributes:
        nprocs: workers of each process.
        nthreads: tasks at a time in each; 0 for the host's cores divided by its workers.
        extra: more words for ``dworker``, such as ``--memory-limit=4GiB``.
    """

    nprocs: int = 1
    nthreads: int = 0
    extra: tuple[str, ...] = ()


@frozen(kw_only=True)
class Daemon:
    """One process on a host.

    Attributes:
        label: what its lines are shown with: ``worker node1``, ``scheduler node1:8786``.
        nprocs: workers in it; 0 for the scheduler.
        nthreads: of each; 0 to be divided up from the host's cores.
        words: further options.
    """

    label: str
    nprocs: int = 0
    nthreads: int = 0
    words: tuple[str, ...] = ()

    @property
    def is_scheduler(self) -> bool:
        """Whether it is the scheduler."""
        return not self.nprocs

    @property
    def log_name(self) -> str:
        """A name for its file in ``--log-directory``."""
        safe = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.label)
        return f"d{safe}.log"


@frozen(kw_only=True)
class Place:
    """One host, entered once, and what runs there.

    Attributes:
        spec: how to enter it, and with which Python and environment.
        daemons: the scheduler first, if it is there.
    """

    spec: HostSpec
    daemons: tuple[Daemon, ...]

    @property
    def is_schedulers(self) -> bool:
        """Whether the scheduler is here."""
        return any(each.is_scheduler for each in self.daemons)

    @property
    def workers(self) -> int:
        """How many workers are to be here."""
        return sum(each.nprocs for each in self.daemons)

    def threads(self, daemon: Daemon, cores: int) -> int:
        """How many threads each worker of *daemon* has on this host of *cores*.

        Those who were not told share the cores, so that a host named twice does as much at a
        time as one that is named once.
        """
        sharing = sum(each.nprocs for each in self.daemons if not each.nthreads)
        return daemon.nthreads or max(1, cores // max(1, sharing))


@frozen(kw_only=True)
class Plan:
    """What is to run where.

    Attributes:
        places: each host once; that of the scheduler first, if it is among them.
        scheduler_port: 0 for any free one.
    """

    places: tuple[Place, ...]
    scheduler_port: int = DEFAULT_PORT

    @property
    def workers(self) -> int:
        """How many there are to be."""
        return sum(each.workers for each in self.places)


def _is_same_host(one: HostSpec, other: HostSpec) -> bool:
    return (one.host, one.user, one.port) == (other.host, other.user, other.port)


def _in_common(specs: Sequence[HostSpec]) -> HostSpec:
    """What is said of a host, by whichever of its words says it; they share one connection."""
    first = specs[0]
    for each in specs[1:]:
        for what in ("python", "env"):
            if getattr(each, what) and getattr(each, what) != getattr(first, what):
                if getattr(first, what):
                    raise UsageProblem(
                        f"{each.source}: {each} was given another {what}= by {first.source}; a "
                        "host has one"
                    )
                first = evolve(first, **{what: getattr(each, what)})
    return first


def _scheduler_of(specs: Sequence[HostSpec], named: HostSpec | None) -> HostSpec:
    if named is not None:
        found = [each for each in specs if each.host == named.host]
        # what its line says of user and port holds, where the option says nothing
        return found[0] if found and named.user is None and named.port is None else named
    marked = [each for each in specs if each.role is Role.SCHEDULER]
    if len(marked) > 1:
        raise UsageProblem(
            f"{marked[1].source}: {marked[1]} has role=scheduler, as {marked[0]} has; a cluster "
            "has one"
        )
    able = marked or [each for each in specs if each.role is not Role.WORKER]
    if not able:
        raise UsageProblem(
            "every host has role=worker: say where the scheduler runs with --scheduler HOST"
        )
    return able[0]


def _worker(spec: HostSpec, label: str, options: WorkerOptions) -> Daemon:
    nprocs = spec.nprocs or options.nprocs
    words: list[str] = list(options.extra)
    if spec.resources:
        words.append(f"--resources={spec.resources}")
    if spec.name:
        if nprocs > 1:
            raise UsageProblem(
                f"{spec.source}: name={spec.name} is for one worker, and {spec} has {nprocs}"
            )
        words.append(f"--name={spec.name}")
    return Daemon(
        label=label,
        nprocs=nprocs,
        nthreads=options.nthreads if spec.nthreads is None else spec.nthreads,
        words=tuple(words),
    )


def make_plan(
    specs: Iterable[HostSpec],
    *,
    scheduler: HostSpec | None = None,
    scheduler_port: int = DEFAULT_PORT,
    workers: WorkerOptions | None = None,
) -> Plan:
    """Who runs what, from what was written.

    Args:
        specs: in the order in which they were written.
        scheduler: where it runs, where that was said; it need not be one of *specs*.
        scheduler_port: of its own port, not of sshd's.
        workers: what holds where a spec says nothing.

    Raises:
        UsageProblem: no host, two schedulers, two workers of one name, …: which, and where it
            was written.
    """
    specs = list(specs)
    options = workers if workers is not None else WorkerOptions()
    if not specs:
        raise UsageProblem("which hosts? dcluster HOST…, or --hostfile FILE")
    names: dict[str, HostSpec] = {}
    for each in specs:
        if each.name and names.setdefault(each.name, each) is not each:
            raise UsageProblem(
                f"{each.source}: {each} has name={each.name}, as {names[each.name]} has"
            )
    chosen = _scheduler_of(specs, scheduler)
    groups: list[list[HostSpec]] = [[chosen]]
    # the scheduler's own place comes first; its words count as workers only where they are some
    for each in specs:
        for group in groups:
            if _is_same_host(group[0], each):
                group.append(each)
                break
        else:
            groups.append([each])
    places = []
    for number, group in enumerate(groups):
        daemons = []
        if number == 0:
            port = f":{scheduler_port}" if scheduler_port else ""
            daemons.append(Daemon(label=f"scheduler {chosen.host}{port}"))
        working = group if number else group[1:]
        spec = _in_common(group)
        for count, each in enumerate((w for w in working if w.role is not Role.SCHEDULER), 1):
            label = f"worker {each.host}" + (f" #{count}" if count > 1 else "")
            daemons.append(_worker(each, label, options))
        places.append(Place(spec=spec, daemons=tuple(daemons)))
    plan = Plan(places=tuple(places), scheduler_port=scheduler_port)
    if not plan.workers:
        raise UsageProblem("no host has a worker: name one without role=scheduler")
    return plan
