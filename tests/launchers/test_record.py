"""What a launcher remembers of clusters that it has left."""

from __future__ import annotations

import json

import pytest

from twisted_dist.access.home import Home
from twisted_dist.errors import ClusterError
from twisted_dist.launchers.cluster.record import Record, RecordedAgent, Records, dump, load
from twisted_dist.launchers.cluster.request import SSHOptions
from twisted_dist.launchers.far_side.command import Surroundings
from twisted_dist.launchers.ssh.settings import Strictness

AGENT = RecordedAgent(
    id="0123456789ab",
    host="h1",
    user="me",
    port=2222,
    is_scheduler=True,
    labels=("scheduler h1",),
    ssh=SSHOptions(config_file="/c", strictness=Strictness.ACCEPT_NEW, fingerprints=("SHA256:x",)),
    surroundings=Surroundings(python="~/py", activate="conda activate x", env={"A": "b c"}),
)
RECORD = Record(
    name="10.0.0.1:8786", address="10.0.0.1:8786", machine="h1", since=1.5, agents=(AGENT,)
)


@pytest.fixture
def records(tmp_path):
    """Of a user with a home."""
    return Records(Home(tmp_path / "home"))


def test_text():
    """`load` gives what `dump` has written."""
    assert load(dump(RECORD)) == RECORD


@pytest.mark.parametrize("change", [
    {"format": 2}, {"agents": 7}, {"agents": [{}]}, {"since": "now"}, {"name": ""},
    {"name": 7}, {"more": 1}, {"address": None},
])  # fmt: skip
def test_what_is_none(change):
    """`load` refuses what is no record, with nothing but ValueError."""
    with pytest.raises(ValueError, match=r"."):
        load(json.dumps({**json.loads(dump(RECORD)), **change}))


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "null", "[" * 100_000])
def test_garbage(text):
    """`load` refuses garbage."""
    with pytest.raises(ValueError, match=r"."):
        load(text)


def test_life_of_a_record(records):
    """`Records` creates, changes, finds and removes; a name is taken once."""
    assert records.all() == []
    records.create(RECORD)
    with pytest.raises(ClusterError, match="already"):
        records.create(RECORD)
    assert records.path(RECORD.name).stat().st_mode & 0o777 == 0o600
    assert records.find(None) == records.find("10.0.0.1:8786") == RECORD
    changed = records.change(RECORD.name, lambda now: now.without([AGENT.id]))
    assert changed.agents == ()
    assert records.find(None) == changed
    records.remove(RECORD.name)
    assert records.all() == []


def test_find(records):
    """`Records.find` says what there is where it is not clear what is meant."""
    with pytest.raises(ClusterError, match="no detached cluster"):
        records.find(None)
    for name in ("a", "b"):
        records.create(Record(name=name, address=f"{name}:1", machine="", since=0))
    assert records.find("b:1").name == "b"
    with pytest.raises(ClusterError, match="which of these clusters\\? a, b"):
        records.find(None)
    with pytest.raises(ClusterError, match="there are a, b"):
        records.find("c")


def test_file_that_cannot_be_used(records):
    """`Records` names a file that is garbage, or that others can read."""
    records.create(RECORD)
    path = records.path(RECORD.name)
    path.chmod(0o644)
    with pytest.raises(ClusterError, match="others can read"):
        records.all()
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(ClusterError, match=str(path)):
        records.find(None)


def test_credentials_go(records):
    """`Records.remove` takes passing credentials along, and no others."""
    for number, is_passing in ((1, True), (2, False)):
        address = f"10.0.0.1:{number}"
        records.home.open_network(address)
        records.create(
            Record(name=address, address=address, machine="", since=0, is_passing=is_passing)
        )
        records.remove(address)
    assert records.home.addresses() == ["10.0.0.1:2"]
