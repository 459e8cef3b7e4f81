"""Ranges of hosts, as shells and SLURM write them."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.hosts.ranges import MAX_HOSTS, expand, split

#: texts that the shell gives the same meaning
AS_BASH = [
    "192.168.0.{1,2,3,4}",
    "node{01..12}",
    "node{1..012}",
    "n{5..1}",
    "n{1..10..3}",
    "n{10..1..-3}",
    "n{-2..2}",
    "n{-02..2}",
    "n{a..e}",
    "n{e..a..2}",
    "rack{a,b{1,2}}-{1..3}",
    "{a,b}{c,d}{e,f}",
    "{,x}y",
    "{a,{b,{c,{d,e}}}}",
    "n{1..1}",
    "n{1,1}",
    "u@{h,i}:{22,2222}",
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="has no bash")
def test_braces_are_bashs():
    """`expand` gives what bash gives, for all that can name hosts."""
    for word in AS_BASH:
        shell = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {word}"], stdout=subprocess.PIPE, text=True, check=True
        )
        assert expand(word) == shell.stdout.splitlines(), word


@pytest.mark.parametrize(
    ("word", "hosts"),
    [
        ("node[01-03,70]", ["node01", "node02", "node03", "node70"]),
        ("node[8-11]", ["node8", "node9", "node10", "node11"]),
        ("node[08-11]", ["node08", "node09", "node10", "node11"]),
        ("node[099-101]", ["node099", "node100", "node101"]),
        ("node[01-02]x[1-2]", ["node01x1", "node01x2", "node02x1", "node02x2"]),
        ("{a,b}[1-2]", ["a1", "a2", "b1", "b2"]),
        ("{a[1-2],b}", ["a1", "a2", "b"]),
        ("{a[1,2],b}", ["a1", "a2", "b"]),
        ("node[7]", ["node7"]),
        ("[::1]", ["[::1]"]),
        ("[::1]:2222", ["[::1]:2222"]),
        ("a@[fe80::{1,2}]:22", ["a@[fe80::{1,2}]:22"]),
        ("plain", ["plain"]),
    ],
)
def test_brackets(word, hosts):
    """`expand` reads brackets as SLURM writes them, and leaves IPv6 addresses alone."""
    assert expand(word) == hosts


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("n{1,2", "not closed"),
        ("n{1..2", "not closed"),
        ("n{a{b,c}", "not closed"),
        ("n1,2}", "no beginning"),
        ("n]", "no beginning"),
        ("n{}", "braces hold"),
        ("n{a}", "braces hold"),
        ("n{1...3}", "braces hold"),
        ("n[1-2", "not closed"),
        ("n[]", "brackets hold"),
        ("n[a-c]", "brackets hold"),
        ("n[1,,2]", "brackets hold"),
        ("n[1-2-3]", "brackets hold"),
        ("n[5-1]", "less than the first"),
        ("n{1..999999999}", "more than"),
        ("n[0-999999999]", "more than"),
        ("{1..1000}{1..1000}", "more than"),
        ("n{{1..9000},{1..9000}}", "more than"),
        ("{a," * 40 + "b" + "}" * 40, "within each other"),
        ("x" * 70_000, "no name of hosts"),
    ],
)
def test_cannot_be_meant(word, why):
    """`expand` refuses what has no meaning, and what has too many, before it makes them."""
    with pytest.raises(UsageProblem, match=why):
        expand(word)


@given(st.text(alphabet="ab01{}[],.-:@ ", max_size=40))
def test_any_text(word):
    """`expand` gives some hosts, at most `MAX_HOSTS`, or says why not; nothing else happens."""
    try:
        found = expand(word)
    except UsageProblem:
        return
    assert 0 < len(found) <= MAX_HOSTS
    assert not any("{" in each or "}" in each for each in found if "[" not in each)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 4))
def test_bracket_ranges(first, more, width):
    """`expand` counts from the first to the last, in the width of the first."""
    begin = str(first).zfill(width)
    found = expand(f"n[{begin}-{first + more}]")
    assert [int(each[1:]) for each in found] == list(range(first, first + more + 1))
    if begin.startswith("0"):
        assert all(len(each) > len(begin) for each in found)


@given(st.lists(st.sampled_from(["a", "n[1-2,5]", "{x,y}", "b:22", "{p[1,2],q}"]), max_size=8))
def test_split(parts):
    """`split` parts words at blanks and commas, and no group."""
    assert split(",".join(parts)) == parts
    assert split(" \n".join(parts)) == parts
