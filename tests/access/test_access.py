"""Credentials, what members and schedulers hold of them, and both as text."""

import contextlib
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_dist.access.access import JOIN_PREFIX, Access
from twisted_dist.access.credential import Credential, is_certificate
from twisted_dist.access.network import Network
from twisted_dist.access.roles import ADMIN, READ_ONLY, ROLES, SUBMIT, WORKER
from twisted_dist.errors import AccessError, UsageProblem


@pytest.fixture(scope="module")
def network():
    """One that nothing changes."""
    return Network.make()


@pytest.fixture(scope="module")
def access(network):
    """A worker's."""
    return network.access(["10.0.0.1:8786"], "node1", [network.owned[WORKER]])


def test_a_credential_does_not_show_itself(access):
    """`Credential` keeps its secret out of repr, str, pickles, and what holds it."""
    credential = access.credential(WORKER)
    secret = credential.reveal()
    for shown in (repr(credential), str(credential), repr(access), f"{access}"):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    with pytest.raises(TypeError, match="not sent"):
        pickle.dumps(credential)
    with pytest.raises(TypeError, match="not sent"):
        pickle.dumps(access)


@pytest.mark.parametrize("form", [Access.dump, Access.join_string], ids=["file", "join"])
def test_access_as_text(access, form):
    """`Access.load` reads what `dump` and `join_string` say."""
    read = Access.load(form(access))
    assert read == access
    assert read.credential(WORKER).reveal() == access.credential(WORKER).reveal()


def test_a_join_string_is_one_word_of_bearable_length(access):
    """`Access.join_string` needs no quoting in a shell, and fits on a screen."""
    word = access.join_string()
    assert word.isascii()
    assert not set(word) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert len(word) < 1200


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_text_hurts(data, access, network):
    """`Access.load` and `Network.load` take any text, or say AccessError."""
    whole = data.draw(st.sampled_from([access.dump(), access.join_string(), network.dump()]))
    at = data.draw(st.integers(0, len(whole)))
    to = data.draw(st.integers(at, len(whole)))
    text = whole[:at] + data.draw(st.text(max_size=5)) + whole[to:]
    for load in (Access.load, Network.load):
        with contextlib.suppress(AccessError):
            load(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        "[" * 60_000,
        JOIN_PREFIX,
        JOIN_PREFIX + "A",
        JOIN_PREFIX + "gA",
        JOIN_PREFIX + "kZGRkZGR" * 8000,
        "x" * 200_000,
    ],
)
def test_what_is_no_access(text):
    """`Access.load` says in one line that a text is none."""
    with pytest.raises(AccessError) as caught:
        Access.load(text)
    assert "\n" not in str(caught.value)


def test_network_as_text(network):
    """`Network.load` reads what `dump` says; a grant's secret is not there."""
    copy = Network.load(network.dump())
    credential = copy.grant(SUBMIT, "alice", expires=100.0)
    again = Network.load(copy.dump())
    assert again.grants == copy.grants
    assert again.key == network.key
    assert again.owned == network.owned
    assert credential.reveal().hex() not in copy.dump()
    assert len(json.loads(copy.dump())["grants"]) == len(ROLES) + 1


def test_grants_end(network):
    """`Network` counts what was granted, until it expires or is revoked."""
    copy = Network.load(network.dump())
    alice = copy.grant(SUBMIT, "alice", expires=100.0).certificate
    bob = copy.grant(READ_ONLY, "bob", expires=None).certificate
    assert copy.keys(99.0)[alice] == SUBMIT
    assert alice not in copy.keys(100.0)
    assert "expired" in copy.grants[alice].why_not(100.0)
    copy.revoke("bob")
    assert bob not in copy.keys(0.0)
    assert "revoked" in copy.grants[bob].why_not(0.0)
    with pytest.raises(UsageProblem, match="there are alice, owner-admin"):
        copy.revoke("carol")
    with pytest.raises(UsageProblem, match="already"):
        copy.grant(WORKER, "alice", None)
    with pytest.raises(UsageProblem, match="no role"):
        copy.grant("king", "dave", None)


def test_the_first_role_that_is_held(network, access):
    """`Access.credential` gives the first role that is there, or says what to ask for."""
    owner = network.access(["h:1"], "m", network.owned.values())
    assert owner.credential(ADMIN, SUBMIT).role == ADMIN
    assert owner.credential(SUBMIT).role == SUBMIT
    with pytest.raises(AccessError, match=r"daccess make submit 10\.0\.0\.1:8786"):
        access.credential(ADMIN, SUBMIT)


def test_certificates():
    """`is_certificate` knows a certificate of ours from other bytes."""
    certificate = Credential.make(WORKER).certificate
    assert is_certificate(certificate)
    for other in (b"", b"x", certificate[:-1], certificate + b"x" * 2000):
        assert not is_certificate(other)
