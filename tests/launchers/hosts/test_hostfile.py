"""Hostfiles and the hosts of a command line."""

import string

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.hosts.hostfile import parse
from twisted_dist.launchers.hosts.spec import HostSpec, Role
from twisted_dist.launchers.hosts.words import words

ALL = """\
# comment, with an unclosed ' in it
alice@front:2222  role=scheduler   # another's
node[01-02]       nthreads=4 env.OMP_NUM_THREADS=1 env.EMPTY=
node13 node13     python="/opt/my py/bin/python" resources='GPU=2, memory=16e9'

"""


def plain(hosts):
    """Their texts."""
    return [str(each) for each in hosts]


def test_all_attributes():
    """`parse` gives each host what its line says, and where that was."""
    front, one, two, first, second = parse(ALL, "hosts.txt")
    assert front == HostSpec(
        host="front", user="alice", port=2222, role=Role.SCHEDULER, source="hosts.txt:2"
    )
    assert one == HostSpec(
        host="node01", nthreads=4, env={"OMP_NUM_THREADS": "1", "EMPTY": ""}, source="hosts.txt:3"
    )
    assert two == evolve(one, host="node02")
    assert first == second
    assert first.python == "/opt/my py/bin/python"
    assert first.resources == "GPU=2, memory=16e9"


def test_of_2016():
    """`parse` takes what was a hostfile: words between any blanks, over lines."""
    text = "192.168.0.1 192.168.0.2\n\n\t192.168.0.3\r\n192.168.0.1"
    assert plain(parse(text, "f")) == text.split()


def test_slots():
    """`parse` takes OpenMPI's slots for processes that do one thing at a time."""
    hosts = parse("a slots=4 max_slots=8\nb slots=2 max-slots=2 nthreads=3\nc max_slots=1", "f")
    assert [(each.nprocs, each.nthreads) for each in hosts] == [(4, 1), (2, 3), (None, None)]


def test_pbs():
    """`parse` has a host as often as PBS writes it: once for each slot, in order."""
    assert plain(parse("a\na\nb\na\n", "nodes")) == ["a", "a", "b", "a"]


def test_slurm():
    """`parse` and `words` take SLURM's compressed list, commas and all."""
    expected = ["node01", "node02", "node07", "login1"]
    assert plain(parse("node[01-02,07],login1\n", "f")) == expected
    assert plain(words(["node[01-02,07],login1"])) == expected


@pytest.mark.parametrize(
    ("word", "user", "host", "port"),
    [
        ("a", None, "a", None),
        ("bob@a.example.org:22", "bob", "a.example.org", 22),
        ("bob@corp@a", "bob@corp", "a", None),
        ("::1", None, "::1", None),
        ("fe80::1%eth0", None, "fe80::1%eth0", None),
        ("bob@[::1]:2222", "bob", "::1", 2222),
        ("[::1]", None, "::1", None),
        ("my_alias", None, "my_alias", None),
        ("bücher.example", None, "bücher.example", None),
    ],
)
def test_word(word, user, host, port):
    """`words` reads USER@HOST:PORT, with IPv6 addresses in brackets and without."""
    (spec,) = words([word])
    assert (spec.user, spec.host, spec.port) == (user, host, port)
    assert spec.source == "the command line"


@pytest.mark.parametrize(
    "word",
    [
        "-oProxyCommand=x", "-l", "a@-oX", "-x@a", "a:0", "a:65536", "a:", "a:ssh", "@a", "a@",
        ":22", "a/b", "[::1", "[zz::]", "[::1]22", "[::1]:", "1:2:3", "a;b", "$(a)",
        "a:99999999999",
    ],
)  # fmt: skip
def test_no_host(word):
    """`words` refuses what is no host, above all what a program could take for an option."""
    with pytest.raises(UsageProblem, match="the command line: "):
        words([word])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a nproc=3", "nproc= is not known; a line has hosts"),
        ("a nprocs=0", "nprocs='0' is not a count"),
        ("a nthreads=two", "is not a count"),
        ("a role=boss", "scheduler or worker is meant"),
        ("a resources=GPU", "'GPU' is not a resource"),
        ("a env.1X=2", "no name of a variable"),
        ("a python=", "python='' is none"),
        ("a name=x name=y", "name= twice"),
        ("a b name=x", "for one worker"),
        ("a[1-2] name=x", "for one worker"),
        ("a name=x nprocs=2", "for one worker"),
        ("a slots=2 name=x", "for one worker"),
        ("a slots=2 nprocs=2", "give one of them"),
        ("a slots=4 max_slots=2", "is less than slots=4"),
        ("nprocs=3", "of which host"),
        ("a 'b", "has no end"),
        ("a b[1-", "not closed"),
        ("a b role=scheduler", "for one host, and a has it"),
    ],
)
def test_errors_name_the_line(line, why):
    """`parse` says in which line of what is wrong what."""
    with pytest.raises(UsageProblem, match=why) as caught:
        parse(f"# first\n{line}\n", "my hosts")
    assert str(caught.value).startswith("my hosts:2: ")


def test_one_scheduler():
    """`parse` refuses a second scheduler, and names both lines."""
    with pytest.raises(UsageProblem, match=r"^f:3: .* a has it \(f:1\)"):
        parse("a role=scheduler\nb\nc role=scheduler", "f")


def test_comment_within_a_word():
    """`parse` takes a # for a comment where a word begins, and nowhere else."""
    (host,) = parse("a env.COLOUR=red#1 env.X='# no' env.Y=\\# # b", "f")
    assert host.env == {"COLOUR": "red#1", "X": "# no", "Y": "#"}


NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)


HOSTS = NAMES | st.ip_addresses().map(str)


@given(st.lists(st.tuples(HOSTS, st.none() | st.integers(1, 65535), st.none() | NAMES)))
def test_round(places):
    """`words` and `parse` read what `HostSpec` shows."""
    hosts = [HostSpec(host=h, port=p, user=u) for h, p, u in places]
    texts = plain(hosts)
    assert words(texts) == hosts
    assert plain(parse("\n".join(texts), "f")) == texts
    assert plain(parse(",".join(texts), "f")) == texts


@given(st.text())
def test_any_text(text):
    """`parse` gives hosts, or one line that begins with the place; nothing else happens."""
    told = ""
    try:
        parse(text, "f")
    except UsageProblem as problem:
        told = str(problem)
    assert told == "" or told.startswith("f")
    assert "\n" not in told
