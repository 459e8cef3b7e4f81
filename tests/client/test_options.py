"""What `submit` and its like refuse before anything is sent."""

import pytest

from twisted_dist.client import pickling
from twisted_dist.client.operations import as_keys
from twisted_dist.client.options import NOTHING, as_options
from twisted_dist.errors import UsageProblem


def test_what_differs_from_the_defaults():
    """`as_options` gives what the wire carries, and nothing where nothing is asked."""
    assert as_options() is NOTHING
    assert as_options(workers="a", resources={"GPU": 0.5}, timeout=2, retries=1) == {
        "workers": ["a"],
        "resources": {"GPU": 5000},
        "timeout_s": 2,
        "retries": 1,
    }


@pytest.mark.parametrize(
    "given",
    [
        {"workers": [1]},
        {"workers": "a\udcff"},
        {"resources": {"": 1}},
        {"resources": {"GPU\udcff": 1}},
        {"resources": {"GPU": 0}},
        {"resources": {"GPU": 0.00001}},
        {"retries": -1},
        {"priority": 2**63},
        {"timeout": 0},
    ],
    ids=str,
)
def test_what_cannot_be_meant(given):
    """`as_options` refuses it by name."""
    with pytest.raises(UsageProblem, match=next(iter(given))):
        as_options(**given)


@pytest.mark.parametrize("key", [["a\udcff"], "a\udcff", [""], [1]], ids=ascii)
def test_names_that_are_none(key):
    """`as_keys` refuses them: the wire could not carry them."""
    with pytest.raises(UsageProblem, match="key="):
        as_keys(key, 2)


def test_too_many_inputs(monkeypatch):
    """`check_call` refuses more inputs than a message can name."""
    monkeypatch.setattr(pickling, "MAX_INPUTS", 3)
    pickling.check_call("f", b"", 3)
    with pytest.raises(UsageProblem, match="f has 4 inputs, more than 3"):
        pickling.check_call("f", b"", 4)
