"""What all tests share: a home of their own, so that the user's is left alone, and their order."""

import hypothesis
import pytest

# How long an example takes, and is made, depends on what else the machine does: to fail by that
# is to fail at random. Figures come from benchmarks; what hangs, pytest-timeout finds.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """An empty directory for access files, and no access from outside."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWISTED_DIST_HOME", str(directory))
        patch.delenv("TWISTED_DIST_ACCESS", raising=False)
        yield directory


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items):
    """Tests with real processes run one after the other, also where others run beside them.

    Some count the processes of this machine, or what is in /dev/shm. ``--dist loadgroup``
    (pytest-xdist) keeps a group together; without it this means nothing.
    """
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.xdist_group("processes"))
