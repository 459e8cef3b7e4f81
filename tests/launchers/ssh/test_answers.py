"""What configurations say, value by value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.answers import (
    Hop,
    read_answers,
    read_hops,
    read_seconds,
    split_paths,
)
from twisted_dist.launchers.ssh.person import Person
from twisted_dist.launchers.ssh.tokens import expand, tokens_for

HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,20}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
USERS = st.none() | st.from_regex(r"[a-z_][a-z0-9_@.-]{0,10}", fullmatch=True)
HOPS = st.builds(Hop, HOSTS, USERS, st.none() | st.integers(1, 65535))
PATHS = st.from_regex(r"/[a-z./]{1,10}( [a-z.]{1,5}){0,2}", fullmatch=True)


def written(hop):
    """A hop as people write it."""
    user = "" if hop.user is None else f"{hop.user}@"
    if hop.port is None:
        return f"{user}{hop.host}"
    host = f"[{hop.host}]" if ":" in hop.host else hop.host
    return f"{user}{host}:{hop.port}"


@given(st.lists(HOPS, min_size=1, max_size=4))
def test_hops_as_written(hops):
    """`read_hops` reads names and numbers of both kinds, with and without users and ports."""
    assert read_hops(",".join(map(written, hops))) == tuple(hops)


@pytest.mark.parametrize(
    "text", ["a:b", "-x", "a@", "@a", "a,,b", "[a", "a:1:", "u@-x:y", "::1]", "-u@h"]
)
def test_hops_that_are_none(text):
    """`read_hops` refuses what is no host."""
    with pytest.raises(SSHError, match="is no "):
        read_hops(text)


@pytest.mark.parametrize("text", ["none", "NONE", ""])
def test_no_hops(text):
    """`read_hops` knows the word for none."""
    assert read_hops(text) == ()


@given(st.lists(PATHS, min_size=1, max_size=3, unique=True))
def test_paths_with_spaces(paths):
    """`split_paths` finds absolute paths again, with or without spaces."""
    assert split_paths(" ".join(paths), {}.get) == tuple(paths)


@given(st.lists(st.text("abc /.%~", max_size=12)))
def test_any_words(lines):
    """`read_answers` reads any lines."""
    read_answers("\n".join(f"userknownhostsfile {each}" for each in lines), lambda path: False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("none", 5), ("0", 5), ("7", 7), ("1m30s", 90), ("1H", 3600)]
)
def test_times(text, seconds):
    """`read_seconds` reads times as ``ssh`` writes them."""
    assert read_seconds({"connecttimeout": (text,)}, "connecttimeout", 5) == seconds


def test_expand():
    """`expand` puts in what letters, variables and ``~`` stand for."""
    person = Person("ann", "/home/ann", 7, "desk.example.com")
    tokens = tokens_for(person, alias="a", host="b", port=1, user="u", key_alias=None, jump="")
    text = "~/%%-%h-%n-%p-%r-%u-%i-%L-%l-%d-%k-${X}-$Y"
    assert expand(text, tokens, {"X": "x"}, "/home/ann") == (
        "/home/ann/%-b-a-1-u-ann-7-desk-desk.example.com-/home/ann-a-x-$Y"
    )
    assert len(expand("%C", tokens, {}, "/")) == 40
    for wrong in ("%x", "%", "${X}"):
        with pytest.raises(SSHError, match="here"):
            expand(wrong, tokens, {}, "/")
