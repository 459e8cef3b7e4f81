"""What the system's ssh is told, and what is made of what it says."""

import os
import shutil
import subprocess

import pytest
from attrs import evolve

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.answers import last, read_answers
from twisted_dist.launchers.ssh.openssh.configuration import Pin, configuration
from twisted_dist.launchers.ssh.openssh.words import entering_error, reason
from twisted_dist.launchers.ssh.settings import HostSettings, Strictness

HOST = HostSettings(
    alias="node",
    host="10.0.0.1",
    port=222,
    user="ann",
    known_hosts=("/k/own file", "/k/100%"),
    agent="/run/agent",
    config_file="none",
)
GATE = HostSettings(
    alias="gate", host="10.0.0.9", user="eve", port=22, identity_files=("/id",), config_file="none"
)
PIN = Pin("/pin", "/seen", frozenset())
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh")


def understood(tmp_path, text, host):
    """What ``ssh`` makes of a configuration, of one host."""
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    told = subprocess.run(
        ["ssh", "-G", "-T", "-F", str(path), host],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return read_answers(told.stdout, lambda path: False)


@needs_ssh
def test_settings_count_first(tmp_path):
    """`configuration` has the settings of a host before the user's own lines, which count too."""
    own = tmp_path / "own config"
    own.write_text(
        "Compression yes\nHost node\n HostName wrong\n StrictHostKeyChecking no\n"
        " LocalForward 1 a:1\n Ciphers aes128-ctr\n CertificateFile /cert\n",
        encoding="utf-8",
    )
    settings = evolve(HOST, config_file=str(own), strictness=Strictness.ACCEPT_NEW, key_alias="x")
    found = understood(tmp_path, configuration(settings, True, PIN), "node")
    assert last(found, "hostname") == "10.0.0.1"
    assert last(found, "stricthostkeychecking") == "accept-new"
    assert found["userknownhostsfile"] == ("/k/own file", "/k/100%")
    assert last(found, "identityagent") == "/run/agent"
    assert last(found, "hostkeyalias") == "x"
    assert last(found, "clearallforwardings") == "yes"
    assert last(found, "batchmode") == "no"
    assert last(found, "connecttimeout") == "20"
    assert last(found, "serveraliveinterval") == "15"
    assert last(found, "compression") == "yes"
    assert last(found, "ciphers") == "aes128-ctr"
    assert last(found, "certificatefile") == "/cert"


@needs_ssh
def test_way(tmp_path):
    """`configuration` holds for hosts on the way, each with settings of its own."""
    settings = evolve(HOST, jumps=(GATE, evolve(GATE, alias="::1", host="::1", port=7)))
    text = configuration(settings, False, PIN)
    end, gate = (understood(tmp_path, text, each) for each in ("node", "gate"))
    assert last(end, "proxyjump") == "eve@gate:22,eve@[::1]:7"
    assert last(end, "batchmode") == last(gate, "batchmode") == "yes"
    # nobody is there to be asked
    assert last(gate, "stricthostkeychecking") in {"true", "yes"}
    assert last(gate, "hostname") == "10.0.0.9"
    assert gate["identityfile"] == ("/id",)
    assert last(gate, "identityagent") == "none"
    assert "proxyjump" not in gate


@needs_ssh
def test_fingerprints(tmp_path):
    """`configuration` has ssh ask for a key by its fingerprint, and forget all files."""
    wanted = "SHA256:" + "a" * 43
    settings = evolve(HOST, fingerprints=[wanted], strictness=Strictness.NO)
    pin = Pin("/p/100%/pin", "/seen", frozenset({"ssh-ed25519"}))
    found = understood(tmp_path, configuration(settings, True, pin), "node")
    assert f"-I -S /p/100%%/pin /seen %H %t %K {wanted}" in last(found, "knownhostscommand")
    assert last(found, "stricthostkeychecking") in {"true", "yes"}
    assert found["userknownhostsfile"] == (os.devnull,)
    assert "ssh-ed25519" not in last(found, "hostkeyalgorithms").split(",")


@pytest.mark.parametrize(
    "change",
    [
        {"alias": "a b"},
        {"alias": "-x"},
        {"host": 'a"b'},
        {"known_hosts": ('/a"b',)},
        {"agent": "/a\nProxyCommand x"},
        {"proxy_command": "a\nb"},
    ],
)
def test_what_cannot_be_told(change):
    """`configuration` refuses what would mean something else in a file."""
    with pytest.raises(SSHError) as caught:
        configuration(evolve(HOST, **change), False, PIN)
    assert caught.value.kind == "settings"


SAID = {
    "ssh: Could not resolve hostname node: Name or service not known": "name",
    "ssh: connect to host 10.0.0.1 port 222: Connection refused": "refused",
    "ssh: connect to host 10.0.0.1 port 222: Connection timed out": "unreachable",
    "ssh: connect to host 10.0.0.1 port 222: No route to host": "unreachable",
    "Connection timed out during banner exchange": "unreachable",
    "ann@10.0.0.1: Permission denied (publickey,password).": "auth",
    "Received disconnect from 10.0.0.1 port 222:2: Too many authentication failures\n"
    "Disconnected from 10.0.0.1 port 222": "auth",
    "Unable to negotiate with 10.0.0.1 port 222: no matching MAC found. Their offer: x": "protocol",
    "@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@\n"
    "Offending ED25519 key in /k:3\nHost key verification failed.": "host-key-changed",
    "No ED25519 host key is known for 10.0.0.1 and you have requested strict checking.\n"
    "Host key verification failed.": "host-key",
    "kex_exchange_identification: Connection closed by remote host": "refused",
    "/c: line 3: Bad configuration option: foo\n/c: terminating, 1 bad configuration options": (
        "settings"
    ),
    "something else": "protocol",
    "": "protocol",
}


@pytest.mark.parametrize("said", SAID)
def test_reasons(said):
    """`entering_error` tells the kinds of failure apart, in one line, with the host's name."""
    error = entering_error(HOST, said.replace("\n", "\r\n"), "status 255")
    assert error.kind == SAID[said]
    assert str(error).startswith("node: ")
    assert len(str(error).splitlines()) == 1
    assert error.is_passing == (error.kind in {"refused", "unreachable"})


def test_reason():
    """`reason` is the last line that is one."""
    text = "Warning: Permanently added 'x'\r\nclosed\r\ndebug1: x\r\n\r\n"
    assert reason(text) == "closed"
    assert reason("debug1: x") == ""
