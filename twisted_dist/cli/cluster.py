"""Options of ``dcluster``."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any, ClassVar, Final

from attrs import evolve
from twisted.python import usage

from twisted_dist.address import DEFAULT_PORT
from twisted_dist.cli import scheduler, worker
from twisted_dist.cli.options import CommandOptions, port_number, positive
from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.cluster.plan import Plan, WorkerOptions, make_plan
from twisted_dist.launchers.cluster.policy import Policy
from twisted_dist.launchers.cluster.request import Request, SSHOptions
from twisted_dist.launchers.cluster.whereabouts import checked_interface
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.hosts.hostfile import parse
from twisted_dist.launchers.hosts.spec import HostSpec
from twisted_dist.launchers.hosts.words import words
from twisted_dist.launchers.ssh.settings import Strictness

#: options of workers that are given to ``dworker`` as they are
PASSED_ON: Final = ("memory-limit", "local-directory", "worker-port", "preload", "lifetime")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def count(text: str) -> int:
    """A count from an option, of which 0 means: by itself; as in 2016."""
    return 0 if text == "0" else positive(text)


class HostOptions(CommandOptions):
    """Hosts, how they are entered, and workers on them."""

    optParameters: ClassVar = [
        ["nthreads", None, 0, "Tasks at a time of each worker (default: its host's cores)", count],
        ["nprocs", None, 1, "Workers on each host, for each time that it is named", positive],
        ["hostfile", None, None, "File with hosts, in addition to HOST..."],
        ["ssh-username", None, None, "User on the hosts (default: as ssh has it)"],
        ["ssh-port", None, None, "Port of the hosts' sshd (default: as ssh has it)", port_number],
        ["ssh-private-key", None, None, "File with the key to enter with"],
        ["ssh-config", None, None, "Configuration of ssh to use (default: ~/.ssh/config)"],
        [
            "ssh-command",
            None,
            None,
            "A program to connect with, such as ssh, where the built-in client cannot: for "
            "servers with AES-GCM only, certificates, security keys, ProxyCommand",
        ],
        [
            "remote-python",
            None,
            None,
            "Python on the hosts (default: the path of this one, or python3 there)",
        ],
        [
            "interface",
            None,
            None,
            "Network by which hosts know each other: an interface's name (ib0) or a subnet "
            "(10.1.0.0/16); default: where each was reached over SSH",
        ],
        ["activate", None, None, "Shell command that is run first there: 'conda activate x'"],
        ["min-workers", None, 1, "Workers without which it ends with an error", positive],
        ["memory-limit", None, None, "As dworker has it"],
        ["local-directory", None, None, "As dworker has it: on each host"],
        ["worker-port", None, None, "As dworker has it"],
        ["preload", None, None, "As dworker has it"],
        ["lifetime", None, None, "As dworker has it"],
        [
            "cluster",
            None,
            None,
            "Name of the detached cluster (default: its scheduler's address; for add: the only "
            "one there is)",
        ],
    ]
    optFlags: ClassVar = [
        ["bootstrap", None, "Ship this package and what it needs to hosts where it is not there"],
        ["accept-new", None, "Take keys of hosts that are in no known_hosts; not changed ones"],
        ["require-all", None, "Start nothing if a host cannot be used"],
        ["no-nanny", None, "As dworker has it"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.environment: dict[str, str] = {}
        self.fingerprints: list[str] = []
        self.specs: list[HostSpec] = []
        self.plan: Plan | None = None
        self.interface = ""

    def opt_env(self, text: str) -> None:
        """NAME=VALUE for the daemons; may be given more than once."""
        if not _VARIABLE.match(text):
            raise usage.UsageError(f"--env: {text!r} is not NAME=VALUE")
        name, _, value = text.partition("=")
        self.environment[name] = value

    def opt_fingerprint(self, text: str) -> None:
        """SHA256:... of a host key to take, as ssh-keygen -lf shows it; may be repeated."""
        if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", text):
            raise usage.UsageError(f"--fingerprint: {text!r} is not SHA256:... of 43 characters")
        self.fingerprints.append(text.rstrip("="))

    def parseArgs(self, *hosts: str) -> None:
        """The hosts."""
        self.given_hosts = hosts

    def make_plan(self) -> Plan:
        """What is to run where. Raises UsageProblem."""
        raise NotImplementedError

    @property
    def is_insecure(self) -> bool:
        """Whether that was said here."""
        return False

    def postOptions(self) -> None:
        """What does not fit together is refused here, before any host is entered."""
        try:
            self.specs = words(self.given_hosts)
            if self["hostfile"] is not None:
                self.specs += self._read(Path(self["hostfile"]))
            if self["interface"] is not None:
                self.interface = checked_interface(self["interface"])
            if not self.specs:
                print(self)
                raise SystemExit(1)
            self.plan = self.make_plan()
        except UsageProblem as problem:
            raise usage.UsageError(str(problem)) from None
        if self["min-workers"] > self.plan.workers:
            raise usage.UsageError(
                f"--min-workers {self['min-workers']}, and there are to be {self.plan.workers}"
            )
        if self["accept-new"] and self.fingerprints:
            raise usage.UsageError("--fingerprint says which keys to take: leave --accept-new out")
        if self["ssh-private-key"] is not None:
            path = Path(self["ssh-private-key"]).expanduser()
            if not path.is_file():
                raise usage.UsageError(f"--ssh-private-key: there is no file {path}")
        self._see_that_daemons_take()

    @staticmethod
    def _read(path: Path) -> list[HostSpec]:
        try:
            return parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeError) as problem:
            why = getattr(problem, "strerror", None) or problem
            raise usage.UsageError(f"--hostfile: cannot read {path}: {why}") from None

    def _workers(self) -> WorkerOptions:
        extra = [f"--{each}={self[each]}" for each in PASSED_ON if self[each] is not None]
        extra += ["--no-nanny"] if self["no-nanny"] else []
        return WorkerOptions(nprocs=self["nprocs"], nthreads=self["nthreads"], extra=tuple(extra))

    def _see_that_daemons_take(self) -> None:
        """Have the daemons' own options say what they would say, once, here."""
        assert self.plan is not None
        for place in self.plan.places:
            for daemon in place.daemons:
                of: Any = scheduler.Options() if daemon.is_scheduler else worker.Options()
                of.program = self.program
                given = [*daemon.words, *(() if daemon.is_scheduler else ("far:1",))]
                if daemon.nprocs > 1:
                    given.append(f"--nprocs={daemon.nprocs}")
                # directories are the hosts'
                of.parseOptions([w for w in given if not w.startswith("--local-directory")])

    def request(self) -> Request:
        """The cluster that is wanted."""
        assert self.plan is not None
        local = self["local-directory"]
        return Request(
            plan=self.plan,
            policy=Policy(require_all=bool(self["require-all"]), min_workers=self["min-workers"]),
            ssh=SSHOptions(
                user=self["ssh-username"],
                port=self["ssh-port"],
                key=self["ssh-private-key"],
                config_file=self["ssh-config"],
                strictness=Strictness.ACCEPT_NEW if self["accept-new"] else None,
                fingerprints=tuple(self.fingerprints),
                command=tuple(shlex.split(self["ssh-command"] or "")),
            ),
            surroundings=Surroundings(
                python=self["remote-python"],
                here=sys.executable,
                activate=self["activate"] or "",
                env=self.environment,
            ),
            directories=() if local is None else (local,),
            ships=bool(self["bootstrap"]),
            is_insecure=self.is_insecure,
            interface=self.interface,
        )


class Options(HostOptions):
    """dcluster HOST... [options]: a scheduler and workers on hosts, over SSH."""

    program = "dcluster"
    synopsis = "dcluster HOST... [options]\n       dcluster status | down | add HOST..."
    longdesc = (
        "Starts a scheduler on the first host and workers on all of them, over SSH, shows what "
        "they write, and ends them with Ctrl-C or with its own end, whatever that is. Hosts are "
        "entered as ssh would enter them: with ~/.ssh/config, the agent, and known_hosts."
    )
    examples: ClassVar = [
        ("dcluster 192.168.0.1 192.168.0.2", "two hosts; the first has the scheduler, too"),
        ("dcluster 'node[01-16]' --nthreads 4", "sixteen"),
        ("dcluster --hostfile hosts.txt --check", "see what is missing there, start nothing"),
        ("dcluster --detach node1 node2", "one that stays, until  dcluster down"),
    ]
    optParameters: ClassVar = [
        ["scheduler", None, None, "Host of the scheduler (default: the first one)"],
        ["scheduler-port", None, DEFAULT_PORT, "Its port; 0 for any free one", port_number],
        [
            "log-directory",
            None,
            None,
            "Directory here for a file with the lines of each daemon; the terminal then has "
            "what happens to hosts, and not each line",
        ],
    ]
    optFlags: ClassVar = [
        ["check", None, "See whether all hosts can be used, show it in a table, start nothing"],
        ["detach", None, "Return once it is up, and let it run; end it with dcluster down"],
        [
            "insecure",
            None,
            "No TLS, no credentials: whoever reaches the scheduler may do everything",
        ],
    ]

    def make_plan(self) -> Plan:
        """As `HostOptions` says: a scheduler, too."""
        return make_plan(
            self.specs,
            scheduler=self._scheduler(),
            scheduler_port=self["scheduler-port"],
            workers=self._workers(),
        )

    def postOptions(self) -> None:
        """What does not fit together is refused here, before any host is entered."""
        super().postOptions()
        if self["cluster"] is not None and not self["detach"]:
            raise usage.UsageError("--cluster is a name for --detach: give that too")
        if self["log-directory"] is not None and self["detach"]:
            raise usage.UsageError(
                "--log-directory is here, and --detach leaves: logs are on the hosts then"
            )

    def _scheduler(self) -> HostSpec | None:
        if self["scheduler"] is None:
            return None
        found = words([self["scheduler"]], "--scheduler")
        if len(found) != 1:
            raise usage.UsageError(f"--scheduler: {len(found)} hosts, and a cluster has one")
        return found[0]

    @property
    def is_insecure(self) -> bool:
        """Whether the network is without TLS and credentials."""
        return bool(self["insecure"])


class AddOptions(HostOptions):
    """dcluster add HOST... [options]: workers for a detached cluster."""

    program = "dcluster add"
    synopsis = "dcluster add HOST... [--cluster NAME] [options]"
    longdesc = (
        "Starts workers on more hosts for a cluster that dcluster --detach has left running; a "
        "host that has some already gets more. Hosts are entered as those of the cluster were "
        "(--ssh-...), unless it is said here. dcluster down ends them with the others."
    )
    examples: ClassVar = [
        ("dcluster add node3 node4", "workers on two hosts more"),
        ("dcluster add 'node[05-08]' --cluster big --nthreads 2", "for one of several clusters"),
    ]

    def make_plan(self) -> Plan:
        """As `HostOptions` says: the scheduler is elsewhere."""
        elsewhere = HostSpec(host="")
        plan = make_plan(self.specs, scheduler=elsewhere, workers=self._workers())
        return evolve(plan, places=plan.places[1:])
