"""Options and service of ``dworker``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.python import usage

from twisted_dist.address import parse_address
from twisted_dist.cli.daemon import Daemon, checked_access, tune_collector, warn_insecure
from twisted_dist.cli.draining import DRAIN_S, Draining
from twisted_dist.cli.options import (
    FLAGS,
    HTTP_PORT,
    STDIN_SILENCE,
    DaemonOptions,
    port_number,
    positive,
)
from twisted_dist.cli.ports import bind, bind_http
from twisted_dist.cli.standard_input import STDIN, read_line
from twisted_dist.core.options import read_amounts
from twisted_dist.errors import AccessError, UsageProblem
from twisted_dist.segments.files import on_disk
from twisted_dist.services.lifetime import Lifespan, as_seconds
from twisted_dist.services.memory import memory_limit
from twisted_dist.services.solitude import DEATH_S

if TYPE_CHECKING:
    from twisted_dist.access.access import Access


class Options(DaemonOptions):
    """dworker HOST:PORT [options]: runs tasks for the scheduler at HOST:PORT."""

    program = "dworker"
    description = "Worker of a twisted_dist network"
    synopsis = "dworker HOST:PORT [options]"
    longdesc = (
        "Runs tasks for the scheduler at HOST:PORT, which need not be there yet: the worker "
        "waits for it, five minutes unless told otherwise. Tasks run in a child process that this "
        "one, the nanny, watches and starts again when a task ends it. "
        "dworker 192.168.0.1:8786 --nprocs 4  "
        "On the scheduler's machine, or with its home directory, nothing more is needed; elsewhere "
        "give an access file that was made there:  daccess make worker 192.168.0.1:8786"
    )
    optParameters: ClassVar = [
        [
            "host",
            None,
            None,
            "Address to be known by (default: the one that reaches the scheduler)",
        ],
        ["worker-port", None, 0, "Port for data (default: any free one)", port_number],
        HTTP_PORT,
        ["nthreads", None, None, "Tasks at a time (default: cores divided by nprocs)", positive],
        ["nprocs", None, 1, "Workers to start", positive],
        [
            "access-file",
            None,
            None,
            "File made by daccess that lets this worker in, or  -  for a join string on the first "
            "line of standard input (default: $TWISTED_DIST_ACCESS, or what the scheduler left in "
            "$TWISTED_DIST_HOME)",
        ],
        STDIN_SILENCE,
        [
            "resources",
            None,
            {},
            "What tasks may ask for with resources=, such as  'GPU=2 memory=16e9'",
            read_amounts,
        ],
        [
            "memory-limit",
            None,
            "auto",
            "What a worker's tasks and values may use: bytes, 4GiB, 0.5 of the machine's memory, "
            "0 for any, or auto: the machine's, by the share of its cores",
        ],
        [
            "local-directory",
            None,
            None,
            "Where values go that do not fit into memory (default: where this system has "
            "temporary files)",
        ],
        [
            "recycle-after",
            None,
            0,
            "Tasks after which a worker runs the next in a new process, for code that leaks "
            "(default: never)",
            positive,
        ],
        [
            "preload",
            None,
            "",
            "Modules that a worker imports before it runs tasks, such as  numpy,pandas",
        ],
        [
            "lifetime",
            None,
            0.0,
            "Leave gracefully after so long: 3600, 90s, 15m, 12h, '1 day' (default: never)",
            as_seconds,
        ],
        [
            "lifetime-stagger",
            None,
            0.0,
            "Leave up to so much earlier or later, at random, so that not all leave at once",
            as_seconds,
        ],
        [
            "drain-timeout",
            None,
            DRAIN_S,
            "Told to end (SIGTERM, Ctrl-C), a worker ends what it runs and hands over results, for "
            "so long at most; 0: it ends at once",
            as_seconds,
        ],
        [
            "death-timeout",
            None,
            DEATH_S,
            "Without a scheduler for so long, a worker ends: 300, '5 min'; 0: it waits for ever",
            as_seconds,
        ],
        ["name", None, "", "A name that workers= understands; no other worker may have it"],
    ]
    optFlags: ClassVar = [
        ["insecure", None, "The scheduler has --insecure: no TLS, no credentials"],
        ["lifetime-restart", None, "When the lifetime is over, begin anew with a fresh process"],
        ["no-nanny", None, "Run tasks in threads of this process, not in a supervised child"],
        *FLAGS,
    ]

    def parseArgs(self, scheduler: str = "") -> None:
        """The scheduler's address."""
        self["scheduler"] = scheduler

    def postOptions(self) -> None:
        """What does not fit together is refused here, before anything starts."""
        if not self["scheduler"]:
            raise usage.UsageError("which scheduler? dworker HOST:PORT")
        try:
            parse_address(self["scheduler"])
        except UsageProblem as problem:
            raise usage.UsageError(str(problem)) from None
        if self["nprocs"] > 1:
            for option in ("name", "worker-port"):
                if self[option]:
                    raise usage.UsageError(
                        f"--{option} is for one worker, and --nprocs asks for {self['nprocs']}"
                    )
        if self["no-nanny"]:
            for option, default in (
                ("memory-limit", "auto"),
                ("recycle-after", 0),
                ("preload", ""),
                ("local-directory", None),
                ("lifetime-restart", 0),
            ):
                if self[option] != default:
                    raise usage.UsageError(f"--{option} is the nanny's: leave --no-nanny out")
        if self["local-directory"] is not None:
            try:
                os.close(on_disk(self["local-directory"]))
            except OSError as problem:
                why = f"{problem.strerror}: {problem.filename}"
                raise usage.UsageError(f"--local-directory: {why}") from None
        try:
            memory_limit(self["memory-limit"], 1)
        except UsageProblem as problem:
            raise usage.UsageError(f"--memory-limit: {problem}") from None
        try:
            Lifespan.of(self["lifetime"], self["lifetime-stagger"], bool(self["lifetime-restart"]))
        except UsageProblem as problem:
            raise usage.UsageError(f"--lifetime: {problem}") from None
        if self["insecure"] and self["access-file"]:
            raise usage.UsageError("--insecure needs no --access-file: give one of them")


def _access(file: str | None) -> Access | None:
    """The access that was given by a file or in the environment; None where neither was."""
    from twisted_dist.access.access import MAX_ACCESS_BYTES, Access
    from twisted_dist.access.find import load_access, take_from_environment

    given = take_from_environment()
    if file == STDIN:
        text = read_line("an access", most=MAX_ACCESS_BYTES)
        try:
            return Access.load(text)
        except AccessError as problem:
            raise AccessError(f"standard input: {problem}") from None
    return given if file is None else load_access(file)


def makeService(options: Options) -> Any:
    """Workers on ports that are bound already; SystemExit where one is taken."""
    from twisted.internet import defer

    from twisted_dist.services.nanny import Nanny
    from twisted_dist.services.worker import Worker

    insecure = bool(options["insecure"])
    access = None
    if insecure:
        warn_insecure(options.program)
    else:
        access = checked_access(options.program, lambda: _access(options["access-file"]))
    make: Any = Worker
    more: dict[str, Any] = {}
    if not options["no-nanny"]:
        make = Nanny
        more["memory_limit"] = options["memory-limit"]
        more["local_directory"] = options["local-directory"]
        more["recycle_after"] = options["recycle-after"]
        more["preload"] = [each.strip() for each in options["preload"].split(",") if each.strip()]
    nthreads = options["nthreads"] or max(1, (os.cpu_count() or 1) // options["nprocs"])
    http = bind_http(options.program, options["http-port"], options["host"])
    workers: list[Any] = []
    listening: set[Worker] = set()
    there: set[Worker] = set()
    for _ in range(options["nprocs"]):
        port = options["worker-port"]
        bound = bind(options.program, options["host"], port, "--worker-port")
        worker = make(
            options["scheduler"],
            nthreads=nthreads,
            name=options["name"],
            host=options["host"],
            access=access,
            insecure=insecure,
            resources=options["resources"],
            lifetime=options["lifetime"],
            lifetime_stagger=options["lifetime-stagger"],
            lifetime_restart=bool(options["lifetime-restart"]),
            death_timeout=options["death-timeout"],
            **more,
        )
        worker.adopt(bound)
        workers.append(worker)

    async def run(daemon: Daemon, worker: Worker) -> None:
        address = await worker.listen(0)
        daemon.announce(f"Start worker at:            {address}")
        worker.left = lambda why: daemon.note_failure(f"a worker leaves: {why}")

        def registered(worker: Worker) -> None:
            there.add(worker)
            daemon.announce(f"Registered with center at:  {worker.scheduler}")
            have = f"{len(there)} of {len(workers)} have" if len(workers) > 1 else "has"
            daemon.status(f"{have} registered with {worker.scheduler}")

        worker.registered = registered
        listening.add(worker)
        if len(listening) == len(workers):
            daemon.ready(f"waiting for the scheduler at {worker.scheduler}")
        await worker.start()
        tune_collector()

    def begin(daemon: Daemon) -> None:
        for worker in workers:
            defer.Deferred.fromCoroutine(run(daemon, worker)).addErrback(daemon.failed)

    return Daemon(
        options.program,
        workers,
        begin,
        options["until-stdin-closes"],
        Draining(workers, options["drain-timeout"]),
        http,
        options["stdin-silence"],
    )
