"""Fixtures of all tests: a home of their own, so that the user's is left alone."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """An empty directory for access files, and no access from outside."""
    directory = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWISTED_DIST_HOME", str(directory))
        patch.delenv("TWISTED_DIST_ACCESS", raising=False)
        yield directory
