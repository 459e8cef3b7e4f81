"""What cannot be meant, and what there is not, as ``dcluster`` says it."""

from __future__ import annotations

import pytest

from twisted_dist.cli.cluster_main import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without clusters."""
    monkeypatch.setenv("TWISTED_DIST_HOME", str(tmp_path / "home"))


def run(*words):
    """The status."""
    try:
        return main(words, lambda: None)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status", "a", "b"), "too many words"),
        (("down", "--json"), "--json"),
        (("add", "h1", "--scheduler", "h2"), "--scheduler"),
        (("h1", "--cluster", "x"), "--detach"),
        (("h1", "--detach", "--log-directory", "x"), "--log-directory"),
        (("h1", "--interface", ""), "neither an interface's name"),
        (("h1", "--interface", "10.1.0.0/99"), "--interface: '10.1.0.0/99' is no subnet"),
    ],
)
def test_usage(capsys, words, said):
    """What cannot be meant is one line, and status 2."""
    assert run(*words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert said in output.err


@pytest.mark.parametrize("words", [("down",), ("down", "x"), ("status", "x"), ("add", "h1")])
def test_no_cluster(capsys, words):
    """A cluster that there is not is one line, and status 1."""
    assert run(*words) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("dcluster: there is no detached cluster")
    assert len(output.err.splitlines()) == 1


def test_no_clusters(capsys):
    """``dcluster status`` says that there is none, and that is well."""
    assert run("status") == 0
    assert "there is no detached cluster" in capsys.readouterr().out
    assert run("status", "--json") == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize("word", ["status", "down", "add"])
def test_help(capsys, word):
    """Each word has a help that teaches."""
    assert run(word, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"dcluster {word} ")
    assert "Examples:" in text
