"""How hosts are found in SSH configurations: by ssh where there is one, by paramiko elsewhere."""

import contextlib
import os
import shutil
import sys

import psutil
import pytest
from twisted.internet import reactor  # noqa: TID251 - programs are run
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.support.daemons import is_gone
from tests.support.misdeeds import until
from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh import config as module
from twisted_dist.launchers.ssh.config import Resolver, resolve
from twisted_dist.launchers.ssh.person import Person
from twisted_dist.launchers.ssh.settings import ALIVE_S, CONNECT_S, Strictness

FINGERPRINT = "SHA256:" + "a" * 43
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh")


@pytest.fixture
def place(request, tmp_path):
    """A directory of its own for each test of a class."""
    request.instance.place = tmp_path


@pytest.mark.usefixtures("place")
class Case(TestCase):
    """What all have: a person whose home is a directory of the test."""

    #: the program that is asked; None for none
    ssh = "ssh"

    def setUp(self):
        """A home with the directory that there always is."""
        self.person = Person("ann", str(self.place), 1234, "desk.example.com")
        (self.place / ".ssh").mkdir()
        self.environ = {"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": "/run/agent"}

    def write(self, text, name="config"):
        """A file in the home; its path."""
        path = self.place / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def resolver(self, text=None, **how):
        """One that reads a file with *text*."""
        how.setdefault("config_file", None if text is None else self.write(text))
        how.setdefault("ssh", self.ssh)
        return Resolver(reactor, environ=self.environ, person=self.person, **how)

    def resolve(self, text, host, **how):
        """The settings of a host in a configuration."""
        return Deferred.fromCoroutine(self.resolver(text).resolve(host, **how))

    async def refused(self, text, host, **how):
        """What is said when a host cannot be resolved."""
        with pytest.raises(SSHError) as caught:
            await self.resolver(text).resolve(host, **how)
        assert caught.value.kind == "settings"
        assert not caught.value.is_passing
        return str(caught.value)


class Common:
    """What both ways promise."""

    async def test_alias(self):
        """`Resolver.resolve` finds name, port, user and the rest of an alias."""
        key = self.write("", "key-of-10.0.0.1")
        settings = await self.resolve(
            f"Host a*\n HostName 10.0.0.1\n Port 2222\n User bob\n"
            f" IdentityFile {self.place}/key-of-%h\n IdentityFile {self.place}/none\n"
            " IdentitiesOnly yes\n HostKeyAlias name\n StrictHostKeyChecking accept-new\n"
            " ConnectTimeout 7\n ServerAliveInterval 9\n ServerAliveCountMax 2\n"
            f" UserKnownHostsFile {self.place}/known {self.place}/more\n"
            " GlobalKnownHostsFile none\n",
            "alpha",
        )
        assert (settings.alias, settings.host, settings.port) == ("alpha", "10.0.0.1", 2222)
        assert settings.user == "bob"
        assert settings.identity_files == (key,)
        assert settings.identities_only
        assert not settings.identities_demanded
        assert settings.known_name == "name"
        assert settings.strictness is Strictness.ACCEPT_NEW
        assert settings.connect_timeout_s == 7
        assert (settings.alive_interval_s, settings.alive_count) == (9, 2)
        assert settings.known_hosts == (f"{self.place}/known", f"{self.place}/more")
        assert settings.agent == "/run/agent"
        assert settings.jumps == ()
        assert settings.proxy_command is None
        assert settings.config_file == f"{self.place}/config"

    async def test_defaults(self):
        """`Resolver.resolve` has our own defaults where ``ssh`` would wait for ever."""
        settings = await self.resolve("", "10.0.0.9")
        assert (settings.host, settings.port) == ("10.0.0.9", 22)
        assert settings.connect_timeout_s == CONNECT_S
        assert settings.alive_interval_s == ALIVE_S
        assert settings.strictness is Strictness.ASK
        assert settings.known_hosts[0].endswith("/.ssh/known_hosts")

    async def test_arguments_count_more(self):
        """`Resolver.resolve` takes what is given for what is configured."""
        key = self.write("", "mine")
        settings = await self.resolve(
            "Host *\n Port 1\n User no\n StrictHostKeyChecking no\n IdentityFile /etc/passwd\n",
            "a",
            user="ann",
            port=5,
            key="~/mine",
            strictness=Strictness.YES,
            fingerprints=[FINGERPRINT],
        )
        assert (settings.user, settings.port) == ("ann", 5)
        assert settings.identity_files == (key,)
        assert settings.identities_demanded
        assert settings.strictness is Strictness.YES
        assert settings.fingerprints == {FINGERPRINT}

    async def test_agents(self):
        """IdentityAgent is a path, none, or a variable."""
        text = (
            "Host none\n IdentityAgent none\nHost name\n IdentityAgent SSH_AUTH_SOCK\n"
            "Host variable\n IdentityAgent $OTHER\nHost unset\n IdentityAgent $UNSET\n"
            "Host path\n IdentityAgent /tmp/agent-%r\n User bob\n"
        )
        self.environ["OTHER"] = "/run/other"
        agents = {
            name: (await self.resolve(text, name)).agent
            for name in ("none", "name", "variable", "unset", "path")
        }
        assert agents == {
            "none": None,
            "name": "/run/agent",
            "variable": "/run/other",
            "unset": None,
            "path": "/tmp/agent-bob",
        }

    async def test_jumps(self):
        """ProxyJump's hosts are resolved as configured; only the first by its own ProxyJump."""
        settings = await self.resolve(
            "Host end\n ProxyJump eve@two:222,three\n"
            "Host two\n HostName 10.0.0.2\n ProxyJump one\n"
            "Host three\n HostName 10.0.0.3\n ProxyJump elsewhere\n User carl\n"
            "Host one\n HostName 10.0.0.1\n",
            "end",
            user="ann",
            strictness=Strictness.YES,
        )
        assert [str(each) for each in settings.jumps] == [
            f"{(await self.resolve('', 'x')).user}@10.0.0.1",
            "eve@10.0.0.2:222",
            "carl@10.0.0.3",
        ]
        assert [each.jumps for each in settings.jumps] == [()] * 3
        assert {each.strictness for each in settings.jumps} == {Strictness.YES}

    async def test_jumps_in_a_circle(self):
        """Hosts that are entered through themselves are refused, with the way."""
        told = await self.refused("Host *\n User u\n ProxyJump bastion\n", "a")
        # ssh notices this one itself
        assert told in {
            "ProxyJump goes in a circle: u@a via u@bastion via u@bastion",
            "bastion: ssh cannot use its configuration: jumphost loop via bastion",
        }
        told = await self.refused(
            "Host *\n User u\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n", "a"
        )
        assert told.endswith("u@a via u@b via u@a")

    async def test_proxy_command(self):
        """ProxyCommand is kept as it is; ``none`` is none."""
        text = "Host a\n ProxyCommand nc -q0 gate 1\nHost b\n ProxyCommand none\n"
        assert (await self.resolve(text, "a")).proxy_command == "nc -q0 gate 1"
        assert (await self.resolve(text, "b")).proxy_command is None

    async def test_revoked_host_keys(self):
        """RevokedHostKeys is kept, for whoever cannot read it to refuse."""
        text = "Host a\n RevokedHostKeys /etc/revoked\nHost b\n RevokedHostKeys none\n"
        assert (await self.resolve(text, "a")).revoked_host_keys == "/etc/revoked"
        assert (await self.resolve(text, "b")).revoked_host_keys is None

    async def test_nothing_is_remembered(self):
        """UserKnownHostsFile none never makes the system's file the one to write to."""
        text = "Host *\n UserKnownHostsFile none\n GlobalKnownHostsFile /etc/x\n"
        assert (await self.resolve(text, "a")).known_hosts == (os.devnull, "/etc/x")

    async def test_what_is_no_name(self):
        """Names that programs would take for options are refused before any is run."""
        for host in ("-oProxyCommand=touch /tmp/x", "", "-"):
            assert "is no name of a host" in await self.refused("", host)
        assert "is no name of a user" in await self.refused("", "a", user="-x")

    async def test_key_that_is_not_there(self):
        """A key that was named must be there."""
        assert await self.refused("", "a", key="/nope") == "a: there is no key /nope"

    async def test_wrong_fingerprint(self):
        """What cannot be a fingerprint is said to be none, rather than to fit no key."""
        told = await self.refused("", "a", fingerprints=["MD5:00:11"])
        assert told.startswith("'MD5:00:11' is no fingerprint")


@needs_ssh
class SystemSSHTest(Common, Case):
    """With the system's ``ssh -G``."""

    async def test_many(self):
        """50 hosts behind one bastion take few programs, and few at once."""
        resolver = self.resolver("Host *\n User u\nHost n*\n ProxyJump gate\n")
        asked = []
        real = module.run

        async def counting(reactor, words, *rest):
            asked.append(words[-1])
            return await real(reactor, words, *rest)

        self.patch(module, "run", counting)
        names = [f"n{number}" for number in range(50)]
        found = await gatherResults(
            [Deferred.fromCoroutine(resolver.resolve(each)) for each in names]
        )
        assert [each.host for each in found] == names
        assert {str(each.jumps[0]) for each in found} == {"u@gate"}
        assert len(asked) <= 50 + module.AT_ONCE
        assert asked.count("gate") <= module.AT_ONCE

    async def test_bad_line(self):
        """What ``ssh`` says of a bad line is one line of ours."""
        told = await self.refused("Host *\n  Pord 22\n", "a")
        assert told.startswith("a: ssh cannot use its configuration: ")
        assert "line 2: Bad configuration option: pord" in told
        assert "\n" not in told

    async def test_no_such_file(self):
        """A configuration that is named must be there."""
        with pytest.raises(SSHError, match="nope: No such file or directory"):
            await resolve(reactor, "a", environ=self.environ, config_file="/nope")

    async def test_match_and_include(self):
        """Include and Match are whatever they are to ``ssh``."""
        more = self.write("Host a\n Port 7\n", "more")
        text = f"Include {more}\nMatch exec true\n User matched\n"
        settings = await self.resolve(text, "a")
        assert (settings.port, settings.user) == (7, "matched")

    async def test_spaces_in_lists(self):
        """Paths with spaces are found in lists that ``ssh -G`` writes without quotes."""
        text = f'Host *\n UserKnownHostsFile "{self.place}/a b" {self.place}/c\n'
        known = (await self.resolve(text, "a")).known_hosts
        assert known[:2] == (f"{self.place}/a b", f"{self.place}/c")

    async def test_ssh_that_hangs(self):
        """A configuration that never ends is given up in time, and its program killed."""
        self.patch(module, "ANSWER_S", 0.5)
        text = f'Match exec "echo $$ > {self.place}/pid; exec sleep 60"\n'
        assert "does a Match exec hang?" in await self.refused(text, "a")
        pid = int((self.place / "pid").read_text(encoding="ascii"))
        with contextlib.suppress(psutil.NoSuchProcess):
            hanging = psutil.Process(pid)
            until(lambda: is_gone(hanging))


class FakeSSHTest(Case):
    """With programs that stand for ``ssh``."""

    def setUp(self):
        """A program of ours."""
        super().setUp()
        self.ssh = str(self.place / "ssh")

    def program(self, *lines):
        """Let ``ssh`` be these lines of shell."""
        path = self.place / "ssh"
        path.write_text("\n".join(("#!/bin/sh", *lines, "")), encoding="utf-8")
        path.chmod(0o755)

    async def test_words(self):
        """It is asked with the host last, after ``--``, and nothing on its input."""
        self.program(f'echo "$*" > {self.place}/words', "cat", "echo hostname there")
        settings = await self.resolve("", "a;b", user="u", port=9)
        assert settings.host == "there"
        words = (self.place / "words").read_text(encoding="utf-8")
        assert words == f"-G -T -F {self.place}/config -l u -p 9 -- a;b\n"

    async def test_silent_failure(self):
        """One that fails without a word is told by its status, or its signal."""
        self.program("exit 3")
        assert (await self.refused("", "a")).endswith("it ended with status 3")
        self.program("kill -TERM $$")
        assert (await self.refused("", "a")).endswith("it ended with status -15")

    async def test_cancelled(self):
        """Cancelling ends the program, and those who wait for a turn have it."""
        self.program(f"echo $$ > {self.place}/pid", "exec sleep 60")
        resolver = self.resolver("")
        waiting = [Deferred.fromCoroutine(resolver.resolve(f"h{n}")) for n in range(6)]
        for each in waiting:
            each.cancel()
            failure = await each.addErrback(lambda failure: failure.type.__name__)
            assert failure == "CancelledError"
        self.program("echo hostname there")
        assert (await resolver.resolve("a")).host == "there"

    async def test_odd_words(self):
        """Values that we cannot understand are refused by name."""
        self.program("echo stricthostkeychecking perhaps")
        assert "'perhaps' is not known" in await self.refused("", "a")
        self.program("echo connecttimeout soon")
        assert await self.refused("", "a") == "connecttimeout 'soon' is no number"
        self.program("echo proxyjump a:b:c@:")
        assert "is no [user@]host[:port]" in await self.refused("", "a")
        self.program("echo identityfile %y")
        assert "no %y here" in await self.refused("", "a")


class ParamikoTest(Common, Case):
    """Without an ``ssh``, by paramiko."""

    ssh = None

    def setUp(self):
        """Skipped where paramiko is not there."""
        super().setUp()
        pytest.importorskip("paramiko")

    async def test_include_is_refused(self):
        """An Include that would bring something in is never left out without a word."""
        more = self.write("Host a\n Port 7\n", "more")
        told = await self.refused(f"Include {more}\n", "a")
        assert "which paramiko leaves out; install the OpenSSH client" in told
        assert (await self.resolve("Include /nowhere/*.conf\n", "a")).port == 22

    async def test_match(self):
        """Match lines that paramiko cannot follow are refused with what to install."""
        told = await self.refused("Match exec true\n Port 3\nMatch final all\n", "a")
        assert "install the OpenSSH client" in told or "cannot be read" in told

    async def test_users_file(self):
        """The user's own file is read, from the home in the list of users."""
        self.write("Host a\n Port 7\n", ".ssh/config")
        assert (await self.resolver(config_file=None).resolve("a")).port == 7

    async def test_nothing_to_read_with(self):
        """A configuration that nothing here reads is an error; none at all is none."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "paramiko", None)
            told = await self.refused("Host a\n", "a")
            assert "nothing here can read" in told
            assert "pip install 'twisted-dist[ssh-config]'" in told
            settings = await self.resolver(config_file="none").resolve("a")
        assert (settings.host, settings.user) == ("a", "ann")


del Case
