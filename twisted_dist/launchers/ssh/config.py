"""`Resolver`: from what the user calls a host to its `HostSettings`, by their SSH configuration.

``ssh -G HOST`` says what ``ssh`` would do, with Include, Match and all; so there is no parser of
ours that could differ. Where there is no ``ssh``, `twisted_dist.launchers.ssh.parsed` is used.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import evolve
from twisted.internet.defer import DeferredSemaphore

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh import answers as said
from twisted_dist.launchers.ssh.answers import Answers, Hop
from twisted_dist.launchers.ssh.parsed import read_files
from twisted_dist.launchers.ssh.person import Person
from twisted_dist.launchers.ssh.program import Reactor, run
from twisted_dist.launchers.ssh.settings import (
    ALIVE_COUNT,
    ALIVE_S,
    CONNECT_S,
    HostSettings,
    Strictness,
)
from twisted_dist.launchers.ssh.tokens import expand, expand_home, tokens_for

#: seconds until ``ssh -G`` must have answered: it may look names up, and run ``Match exec``
ANSWER_S: Final = 20.0
#: how many of them run at once; each costs 10 ms of a core
AT_ONCE: Final = 4
#: hosts in a row that a jump may go through: somebody's chain of three is long
MOST_JUMPS: Final = 10
#: what ``ssh`` tries where nothing is configured, but for keys in devices
_DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class Resolver:
    """Finds out how hosts are entered; one for all hosts of a cluster.

    Bastions are asked for once, and few programs run at a time.

    Args:
        reactor: runs the programs.
        environ: variables, of which SSH_AUTH_SOCK and PATH count.
        config_file: as ``ssh -F``; None for the user's and the system's.
        ssh: the program, or None for none; looked up in PATH by default.
        person: whose configuration.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        environ: Mapping[str, str],
        config_file: str | None = None,
        ssh: str | None = "ssh",
        person: Person | None = None,
    ) -> None:
        self._reactor = reactor
        self._environ = environ
        self._person = person or Person.here()
        self._config_file = config_file and expand_home(config_file, self._person.home)
        self._ssh = ssh and shutil.which(ssh, path=environ.get("PATH"))
        self._turns = DeferredSemaphore(AT_ONCE)
        self._known: dict[Hop, Answers] = {}

    async def resolve(
        self,
        host: str,
        *,
        user: str | None = None,
        port: int | None = None,
        key: str | None = None,
        strictness: Strictness | None = None,
        fingerprints: Iterable[str] = (),
    ) -> HostSettings:
        """How to enter *host*. What is given counts more than what is configured.

        Args:
            host: its name, number, or alias in the configuration.
            user: to be there.
            port: of its sshd.
            key: the one private key to enter with.
            strictness: about unknown host keys; for hosts on the way, too.
            fingerprints: of the only host keys that are taken; not for hosts on the way.

        Raises:
            SSHError: of kind ``settings``: the configuration cannot be meant.
        """
        if key is not None:
            key = expand_home(key, self._person.home)
            if not os.path.isfile(key):
                raise SSHError(f"{host}: there is no key {key}", "settings")
        fingerprints = frozenset(fingerprints)
        for each in fingerprints:
            if not _FINGERPRINT.fullmatch(each):
                raise SSHError(
                    f"{each!r} is no fingerprint: they are as ssh-keygen -l writes them, "
                    "SHA256: and 43 letters",
                    "settings",
                )
        found = await self._resolve(Hop(host, user, port), ())
        if strictness is not None:
            jumps = tuple(evolve(each, strictness=strictness) for each in found.jumps)
            found = evolve(found, strictness=strictness, jumps=jumps)
        if key is not None:
            found = evolve(found, identity_files=(key,), identities_demanded=True)
        # mypy does not see through a converter that is generic
        return evolve(found, fingerprints=fingerprints)  # type: ignore[arg-type]

    async def _resolve(self, hop: Hop, behind: tuple[str, ...]) -> HostSettings:
        """*behind* are the hosts that are entered through this one."""
        answers = await self._answers(hop)
        settings = self._settings(hop, answers)
        way = (*behind, str(settings))
        if str(settings) in behind or len(way) > MOST_JUMPS:
            raise SSHError(f"ProxyJump goes in a circle: {' via '.join(way)}", "settings")
        hops = said.read_hops(said.last(answers, "proxyjump"))
        if not hops:
            return settings
        # as ssh does: only the first is entered as the configuration of its own says
        first = await self._resolve(hops[0], way)
        rest = [self._settings(each, await self._answers(each)) for each in hops[1:]]
        straight = [evolve(each, proxy_command=None) for each in (*rest, settings)]
        *rest, settings = straight
        return evolve(settings, jumps=(*first.jumps, evolve(first, jumps=()), *rest))

    # -- asking

    async def _answers(self, hop: Hop) -> Answers:
        """What is configured for a host; asked for once, but for some who ask at the same time."""
        _check(hop)
        await self._turns.acquire()
        try:
            if hop not in self._known:
                self._known[hop] = await self._ask(hop)
        finally:
            self._turns.release()
        return self._known[hop]

    async def _ask(self, hop: Hop) -> Answers:
        if self._ssh is None:
            return read_files(hop, self._config_file, self._person, self._environ)
        words = [self._ssh, "-G", "-T"]
        for option, value in (("-F", self._config_file), ("-l", hop.user), ("-p", hop.port)):
            if value is not None:
                words += [option, str(value)]
        told = await run(self._reactor, [*words, "--", hop.host], self._environ, ANSWER_S)
        if told.status is None:
            raise SSHError(
                f"{hop.host}: ssh -G gave no answer in {ANSWER_S:g} s; does a Match exec hang?",
                "settings",
            )
        if told.status != 0:
            reason = " ".join(told.errors.split()) or f"it ended with status {told.status}"
            raise SSHError(f"{hop.host}: ssh cannot use its configuration: {reason}", "settings")
        return said.read_answers(told.output, os.path.exists)

    # -- understanding

    def _settings(self, hop: Hop, answers: Answers) -> HostSettings:
        """All but the jumps."""
        user = said.last(answers, "user", self._person.name)
        host = said.last(answers, "hostname", hop.host)
        port = said.read_port(answers)
        key_alias = said.last(answers, "hostkeyalias") or None
        jump = said.last(answers, "proxyjump")
        tokens = tokens_for(
            self._person,
            alias=hop.host,
            host=host,
            port=port,
            user=user,
            key_alias=key_alias,
            jump=jump,
        )

        def path(text: str) -> str:
            return expand(text, tokens, self._environ, self._person.home)

        proxy_command = said.last(answers, "proxycommand", "none")
        revoked = said.last(answers, "revokedhostkeys", "none")
        return HostSettings(
            alias=hop.host,
            host=host,
            port=port,
            user=user,
            identity_files=self._identity_files(answers, path),
            identities_only=said.is_yes(answers, "identitiesonly"),
            agent=self._agent(said.last(answers, "identityagent", "SSH_AUTH_SOCK"), path),
            revoked_host_keys=None if revoked.lower() == "none" else revoked,
            proxy_command=None if proxy_command.lower() == "none" else proxy_command,
            known_hosts=_known_hosts(answers),
            key_alias=key_alias,
            strictness=said.read_strictness(answers),
            connect_timeout_s=said.read_seconds(answers, "connecttimeout", CONNECT_S),
            alive_interval_s=said.read_seconds(answers, "serveraliveinterval", ALIVE_S),
            alive_count=said.read_count(answers, "serveralivecountmax", ALIVE_COUNT),
            config_file=self._config_file,
        )

    def _identity_files(self, answers: Answers, path: Callable[[str], str]) -> tuple[str, ...]:
        defaults = tuple(f"~/.ssh/{name}" for name in _DEFAULT_KEYS)
        configured = answers.get("identityfile", defaults)
        paths = dict.fromkeys(path(each) for each in configured if each.lower() != "none")
        return tuple(each for each in paths if os.path.isfile(each))

    def _agent(self, text: str, path: Callable[[str], str]) -> str | None:
        if text.lower() == "none":
            return None
        if text == "SSH_AUTH_SOCK":
            return self._environ.get(text) or None
        if text.startswith("$") and not text.startswith("${"):
            return self._environ.get(text[1:]) or None
        return path(text)


async def resolve(
    reactor: Reactor,
    host: str,
    *,
    environ: Mapping[str, str],
    user: str | None = None,
    port: int | None = None,
    key: str | None = None,
    strictness: Strictness | None = None,
    fingerprints: Iterable[str] = (),
    config_file: str | None = None,
) -> HostSettings:
    """How to enter one host: `Resolver.resolve` for those who have only one."""
    return await Resolver(reactor, environ=environ, config_file=config_file).resolve(
        host, user=user, port=port, key=key, strictness=strictness, fingerprints=fingerprints
    )


def _check(hop: Hop) -> None:
    """Refuse what a program could take for an option; ``ssh`` itself is the judge of the rest."""
    if not hop.host or hop.host.startswith("-"):
        raise SSHError(f"{hop.host!r} is no name of a host", "settings")
    if hop.user is not None and (not hop.user or hop.user.startswith("-")):
        raise SSHError(f"{hop.user!r} is no name of a user", "settings")


def _known_hosts(answers: Answers) -> tuple[str, ...]:
    """Files with host keys; the first is the user's, and one that keeps nothing if they say so."""
    own, system = (
        tuple(each for each in answers.get(keyword, ()) if each.lower() != "none")
        for keyword in ("userknownhostsfile", "globalknownhostsfile")
    )
    return (*(own or (os.devnull,)), *system)
