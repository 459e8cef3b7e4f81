"""The files of a user's networks, and finding the right one."""

import json
import os
import stat

import pytest

from twisted_dist.access import find
from twisted_dist.access.find import find_access, find_any, take_from_environment
from twisted_dist.access.home import Home, machine_name, read_secret, write_secret
from twisted_dist.access.network import Network
from twisted_dist.access.roles import ADMIN, SUBMIT, WORKER
from twisted_dist.errors import AccessError

ADDRESS = "10.0.0.1:8786"


@pytest.fixture
def home(tmp_path):
    """One with nothing in it, not even itself."""
    return Home(tmp_path / "home")


def modes(directory):
    """Permissions of all files."""
    return {stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()}


def test_files_are_closed(home):
    """`Home.open_network` leaves a directory of mode 0700 and files of mode 0600."""
    os.makedirs(home.directory, mode=0o755)
    before = os.umask(0)
    try:
        home.open_network(ADDRESS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700
    assert modes(home.directory) == {0o600}


def test_a_scheduler_finds_its_last_life(home):
    """`Home.open_network` gives the same keys again, and others to another address."""
    first = home.open_network(ADDRESS)
    with home.changing_network(ADDRESS) as network:
        alice = network.grant(SUBMIT, "alice", None)
    again = home.open_network(ADDRESS)
    assert again.key == first.key
    assert alice.certificate in again.grants
    other = home.open_network("10.0.0.2:8786")
    assert other.key != first.key
    assert home.addresses() == [ADDRESS, "10.0.0.2:8786"]


def test_a_change_that_fails_changes_nothing(home):
    """`Home.changing_network` writes nothing when its block raises."""
    home.open_network(ADDRESS)
    before = home.network_path(ADDRESS).read_text()

    def fail():
        with home.changing_network(ADDRESS) as network:
            network.grant(SUBMIT, "alice", None)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert home.network_path(ADDRESS).read_text() == before
    assert not [each for each in home.directory.iterdir() if each.name.endswith("-")]


def test_passing_networks_go(home):
    """`Home` removes a passing network at its end, and what a killed scheduler left."""
    home.open_network("127.0.0.1:40001", passing=True)
    home.open_network("127.0.0.1:40002", passing=True)
    home.open_network(ADDRESS)
    home.remove_network("127.0.0.1:40001")
    assert home.addresses() == [ADDRESS, "127.0.0.1:40002"]
    life = home.network_path("127.0.0.1:40002").with_suffix(".life")
    told = json.loads(life.read_text())
    for change, left in (
        ({"machine": "elsewhere", "born": 0}, 3),
        ({"pids": "another container's", "born": 0}, 3),
        ({"born": f"{told['born']}0"}, 2),
    ):
        write_secret(life, json.dumps({**told, **change}))
        home.open_network("10.0.0.3:8786")
        assert len(home.addresses()) == left


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_what_others_can_read_is_not_used(home, tmp_path, mode):
    """`read_secret` refuses a file that is open to others, with what to do."""
    path = tmp_path / "some.access"
    write_secret(path, "secret")
    path.chmod(mode)
    with pytest.raises(AccessError, match="chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == "secret"


def test_problems_with_files_are_one_line(home, tmp_path):
    """`Home` and `read_secret` say AccessError for whatever the system says."""
    with pytest.raises(AccessError, match="No such file"):
        read_secret(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(AccessError, match="TWISTED_DIST_HOME"):
        Home(tmp_path / "file" / "home").prepare()
    with pytest.raises(AccessError, match="only where its scheduler"):
        home.load_network(ADDRESS)
    home.open_network(ADDRESS)
    home.network_path(ADDRESS).write_text("{}")
    with pytest.raises(AccessError, match=r"8786\.network: this is no network file"):
        home.open_network(ADDRESS)


def names(monkeypatch, *addresses):
    """Say which numbers are this machine's."""
    monkeypatch.setattr(find, "_is_here", lambda host: host in {"localhost", *addresses})


def test_finding_by_any_name(home, monkeypatch):
    """`find_access` knows a scheduler by its address, its machine, and loopback on it."""
    names(monkeypatch, "127.0.0.1", "10.0.0.1")
    home.open_network(ADDRESS)
    home.open_network("10.0.0.1:9999")
    for port in ("8786", "9999"):
        wanted = home.load_network(f"10.0.0.1:{port}").key.certificate
        for host in ("10.0.0.1", "127.0.0.1", "localhost", machine_name()):
            assert find_access(f"{host}:{port}", home=home).scheduler == wanted


def test_another_machine_s_loopback(home, monkeypatch):
    """`find_access` does not take another machine's scheduler for one on loopback."""
    names(monkeypatch, "127.0.0.1")
    network = Network.make()
    for machine, port in (("elsewhere", 8786), ("elsewhere", 8787)):
        access = network.access([f"10.0.0.9:{port}"], machine, network.owned.values())
        write_secret(home.access_path(f"10.0.0.9:{port}"), access.dump())
    with pytest.raises(AccessError, match=r"10\.0\.0\.9:8786, 10\.0\.0\.9:8787; copy"):
        find_access("127.0.0.1:8786", home=home)
    assert find_access("10.0.0.9:8787", home=home).scheduler == network.key.certificate


def test_the_only_one(home):
    """`find_access` tries the only access there is under whatever name: its key will show."""
    home.open_network(ADDRESS)
    assert find_access("tunnel:1234", home=home).addresses == (ADDRESS,)


def test_what_is_given_wins(home, tmp_path, monkeypatch):
    """`find_access` takes what it is given, then the variable, then the home."""
    networks = {name: Network.make() for name in ("given", "variable")}
    network = home.open_network(ADDRESS)
    texts = {}
    for name, each in networks.items():
        texts[name] = each.access(["h:1"], "m", [each.owned[WORKER]])
    assert find_access(ADDRESS, home=home).scheduler == network.key.certificate
    monkeypatch.setenv(find.VARIABLE, texts["variable"].join_string())
    assert find_access("10.9.9.9:8786", home=home) == texts["variable"]
    assert find_access(ADDRESS, home=home).scheduler == network.key.certificate
    own = network.access([ADDRESS], "m", [network.owned[SUBMIT]])
    monkeypatch.setenv(find.VARIABLE, own.join_string())
    assert find_access(ADDRESS, home=home) == own
    path = tmp_path / "given.access"
    write_secret(path, texts["given"].dump())
    for given in (path, str(path), texts["given"], texts["given"].join_string()):
        assert find_access(ADDRESS, given, home) == texts["given"]
    monkeypatch.setenv(find.VARIABLE, str(path))
    assert find_access("10.9.9.9:8786", home=home) == texts["given"]
    assert find_any("worker:5", None) == [texts["given"]]
    with pytest.raises(AccessError, match="nothing there: No such file"):
        find_access(ADDRESS, tmp_path / "nothing there")


def test_any_that_may_fit(home, monkeypatch):
    """`find_any` gives all there are: a worker may listen where another scheduler once did."""
    monkeypatch.setenv("TWISTED_DIST_HOME", str(home.directory))
    home.open_network("10.0.0.1:1")
    home.open_network("10.0.0.1:2")
    for port in ("1", "2"):
        best, other = find_any(f"10.0.0.1:{port}")
        assert best == find_access(f"10.0.0.1:{port}")
        assert other != best
    assert len(find_any("10.0.0.7:3")) == 2


def test_taken_from_the_environment(monkeypatch):
    """`take_from_environment` leaves nothing of the variable to this process's children."""
    network = Network.make()
    access = network.access(["h:1"], "m", [network.owned[ADMIN]])
    monkeypatch.setenv(find.VARIABLE, access.join_string())
    assert take_from_environment() == access
    assert find.VARIABLE not in os.environ
    assert take_from_environment() is None


def test_given_network(home):
    """`Home.open_network` is the network that is given, with what it granted since."""
    given = Network.make()
    first = home.open_network(ADDRESS, passing=True, given=Network.load(given.line()))
    assert first.key == given.key
    assert first.owned == given.owned
    with home.changing_network(ADDRESS) as changing:
        changing.grant(SUBMIT, "alice", None)
    again = home.open_network(ADDRESS, passing=True, given=given)
    assert "alice" in {each.name for each in again.grants.values()}
    assert find_access(ADDRESS, home=home).scheduler == given.key.certificate
    assert modes(home.directory) == {0o600}


def test_given_network_and_another(home):
    """`Home.open_network` puts the user's own network aside, and `remove_network` has it back."""
    own = home.open_network(ADDRESS)
    for _ in "ab":  # the second, too, where the first has left its files
        given = Network.make()
        assert home.open_network(ADDRESS, passing=True, given=given).key == given.key
    home.remove_network(ADDRESS)
    assert home.open_network(ADDRESS).key == own.key


def test_given_network_that_was_killed(home):
    """`Home.open_network` brings back what a scheduler had put aside that was killed."""
    own = home.open_network(ADDRESS)
    given = Network.make()
    home.open_network(ADDRESS, passing=True, given=given)
    life = home.directory / "10.0.0.1-8786.life"
    born = json.loads(life.read_text()) | {"born": 0}
    write_secret(life, json.dumps(born))
    assert home.open_network(ADDRESS, given=given, passing=True).key == given.key
    write_secret(life, json.dumps(born))
    assert home.open_network(ADDRESS).key == own.key


def test_network_line():
    """`Network.line` is one line, and the same network."""
    network = Network.make()
    network.grant(SUBMIT, "bob\n", 12.5)
    line = network.line()
    assert "\n" not in line
    assert Network.load(line) == network
