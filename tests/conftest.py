"""Fixtures of all tests: a home of their own, so that the user's is left alone."""

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes says nothing here: machines that run tests do other things as well
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """An empty directory for access files, and no access from outside."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWISTED_DIST_HOME", str(directory))
        patch.delenv("TWISTED_DIST_ACCESS", raising=False)
        yield directory
