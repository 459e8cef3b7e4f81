"""What all tests share: a home of their own, so that the user's is left alone, and their order."""

import hypothesis
import pytest
from twisted.logger import globalLogBeginner

# what fails there says with what values, too
pytest.register_assert_rewrite("tests.support")

# How long an example takes, and is made, depends on what else the machine does: to fail by that
# is to fail at random. Figures come from benchmarks; what hangs, pytest-timeout finds.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


# Until somebody begins to log, Twisted keeps what is logged, and with it whose it is and what
# that holds, until 65,536 more are there: then an old test's memory goes in the midst of another,
# which looks who has some
globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """An empty directory for access files, and no access from outside."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWISTED_DIST_HOME", str(directory))
        patch.delenv("TWISTED_DIST_ACCESS", raising=False)
        yield directory


#: of tests with real processes, those that look at processes of hosts of their own only
OF_HOSTS = ("test_cluster", "test_far_side", "test_here", "test_ssh", "test_tutorial")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist need not be there
def pytest_xdist_make_scheduler(config, log):
    """With ``-n``, tests with real processes run one after the other, beside all others.

    Some count the processes of this machine, or what is in /dev/shm. pytest-xdist's own groups
    (``--dist loadgroup``) do nothing with pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatTheySee(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            directory, _, file = nodeid.partition("::")[0].rpartition("/")
            if not directory.endswith("tests/integration"):
                return nodeid
            return "hosts" if file.startswith(OF_HOSTS) else "processes"

    return ByWhatTheySee(config, log)
