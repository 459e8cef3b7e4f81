"""`Greeting` and `printable`: what is made of what a port says first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import SHOWN_CHARACTERS, printable
from twisted_dist.launchers.ssh.greeting import GREETING_BYTES, Greeting

#: that mean nothing to us; Hypothesis tries what it finds in our source, too
LINES = st.binary(max_size=20).filter(
    lambda line: (
        b"\n" not in line
        and not line.startswith((b"SSH-", b"HTTP/"))
        and b"Exceeded MaxStartups" not in line
    )
)


@given(
    st.lists(LINES),
    st.binary(max_size=50),
    st.data(),
)
def test_any_pieces(lines, rest, data):
    """However its bytes come, all from the version on is passed on, and what is before is not."""
    version = b"SSH-2.0-x\r\n"
    said = b"".join(each + b"\r\n" for each in lines) + version + rest
    greeting, passed = Greeting("web"), b""
    while said:
        size = data.draw(st.integers(1, len(said)))
        piece, said = said[:size], said[size:]
        if passed:
            passed += piece
        else:
            passed = greeting.take(piece) or b""
    assert passed == version + rest


def test_bound():
    """Somebody who says much and no version is no sshd."""
    greeting = Greeting("web")
    assert greeting.take(b"x" * GREETING_BYTES) is None
    with pytest.raises(SSHError, match="is no sshd; it said: 'xxx"):
        greeting.take(b"x")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_why_it_ended(end):
    """What sshd says as it hangs up counts, also where its line has no end."""
    for words, part in (
        (b"Exceeded MaxStartups", "MaxStartups"),
        (b"Not allowed at this time", "PerSourcePenalties"),
    ):
        greeting = Greeting("web")
        try:
            greeting.take(words + end)
            error = greeting.ended()
        except SSHError as found:
            error = found
        assert (error.kind, error.is_passing, part in str(error)) == ("refused", True, True)
    greeting = Greeting("web")
    greeting.take(b"hello" + end)
    assert greeting.ended().kind == "protocol"


@given(st.binary())
def test_printable(said):
    """Whatever a server says is shown as one line of bounded length, without control characters."""
    shown = printable(said)
    assert len(shown) <= SHOWN_CHARACTERS + 1
    assert shown == "" or shown.isprintable()
