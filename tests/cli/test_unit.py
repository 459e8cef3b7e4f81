"""Units for systemd, as text."""

from __future__ import annotations

import os

import pytest

from twisted_dist.cli.options import place
from twisted_dist.cli.scheduler import Options as SchedulerOptions
from twisted_dist.cli.unit import quoted
from twisted_dist.cli.worker import Options as WorkerOptions


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--port=8786", "--port=8786"),
        ("GPU=2 memory=16e9", '"GPU=2 memory=16e9"'),
        ("100%", "100%%"),
        ("$HOME", '"$$HOME"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("", '""'),
    ],
)
def test_quoted(word, text):
    """`quoted` is one word to systemd, whatever is in it."""
    # a percent sign that is doubled is no plain one any more
    assert quoted(word).strip('"') == text.strip('"')
    assert not set(' "$') & set(word) or quoted(word).startswith('"')


def printed(options, *words, capsys):
    """The lines of what is printed instead of starting anything."""
    with pytest.raises(SystemExit) as ended:
        options.parseOptions(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_worker(capsys, monkeypatch, tmp_path):
    """`dworker --print-unit` prints a unit that starts the same worker."""
    monkeypatch.chdir(tmp_path)
    lines = printed(
        WorkerOptions(),
        *("10.0.0.1:8786", "--print-unit", "--resources", "GPU=2 a=1", "--access-file", "a.access"),
        capsys=capsys,
    )
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert os.path.isabs(start.split()[0].removeprefix("ExecStart="))
    assert start.endswith(
        f'dworker "--resources=GPU=2 a=1" --access-file={tmp_path}/a.access 10.0.0.1:8786'
    )
    for line in ("Type=notify", "KillMode=mixed", "Restart=on-failure", "WatchdogSec=60"):
        assert line in lines
    assert f"Environment=TWISTED_DIST_HOME={os.environ['TWISTED_DIST_HOME']}" in lines


def test_no_watchdog(capsys):
    """Tasks in threads of the worker's own process may keep it from answering: no watchdog."""
    lines = printed(WorkerOptions(), "h:1", "--no-nanny", "--print-unit", capsys=capsys)
    assert not any("Watchdog" in line for line in lines)


def test_scheduler(capsys):
    """`dscheduler --print-unit` and `--print-socket-unit` print two units that fit."""
    lines = printed(SchedulerOptions(), "--print-unit", "--insecure", capsys=capsys)
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start.endswith("dscheduler --insecure")
    lines = printed(SchedulerOptions(), "--print-socket-unit", "--port", "99", capsys=capsys)
    assert "ListenStream=0.0.0.0:99" in lines


def test_place():
    """`--http-port` takes a port, and may take an address."""
    assert place("9786") == (None, 9786)
    assert place("127.0.0.1:0") == ("127.0.0.1", 0)
    for text in ("h", "h:", "1:99999", ""):
        with pytest.raises(ValueError, match="is not a port"):
            place(text)
