"""Commands that mean the same to every login shell."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_dist.errors import UsageProblem
from twisted_dist.launchers.far_side.command import (
    ACTIVATION_FAILED,
    MAX_COMMAND,
    NO_PYTHON,
    Surroundings,
    for_any_shell,
    remote_command,
)

SHELLS = [
    [path, *words[1:]]
    for words in (
        ["sh"], ["bash"], ["dash"], ["zsh"], ["tcsh"], ["csh"], ["fish"], ["mksh"],
        ["busybox", "sh"],
    )
    if (path := shutil.which(words[0]))
]  # fmt: skip
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
#: texts that one shell or another would take for something
NASTY = [
    "", " ", "a b", "'", '"', "\\", "\\\\", "\\'", "a'b\"c", "$HOME", "${X}", "$(id)", "`id`", "!",
    "!!", "a!b", "\n", "a\nb\n", "\t", "*", "?", "~", "~root", "#", "%s", "%", "a;b", "a&b", "|",
    "<>", "()", "{a,b}", "[a]", "^", "-n", "\\0101", "\\n", "ä€😀", "=", "\r", "\x01\x7f", "--",
]  # fmt: skip
HERE = Surroundings(python=sys.executable)


def run(command, shell=("sh",), *, env=None, data=b"", home=None):
    """What a login shell makes of a command, as sshd has it run."""
    return subprocess.run(
        [*shell, "-c", command],
        input=data,
        capture_output=True,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home or "/nonexistent"),
            **(env or {}),
        },
        check=False,
        cwd="/",
    )


def shown(command, shell=("sh",), **how):
    """Arguments and variables that reached Python."""
    done = run(command, shell, **how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: os.path.basename(words[0]))
def test_any_word_in_any_shell(shell, tmp_path):
    """`remote_command` brings words and variables to Python as they are, and no shell stays."""
    strange = tmp_path / 'it\'s a "path" with $X, `y` & ü!'
    strange.mkdir()
    (strange / "python").symlink_to(sys.executable)
    env = {f"V{number}": text for number, text in enumerate(NASTY)}
    command = remote_command(
        ["-c", "import os; assert os.getppid() == int(os.environ['OURS']);" + SHOW, *NASTY],
        Surroundings(python=str(strange / "python"), env={**env, "OURS": str(os.getpid())}),
    )
    assert command.isascii()
    assert command.isprintable()
    arguments, seen = shown(command, shell, home=tmp_path)
    assert arguments == NASTY
    assert {name: seen.get(name) for name in env} == env


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: os.path.basename(words[0]))
def test_long(shell, tmp_path):
    """A command as long as one may be is not cut by any shell."""
    text = "x" * 60_000 + "'" * 2_500
    arguments, _ = shown(
        remote_command(["-c", SHOW], evolved(env={"LONG": text})), shell, home=tmp_path
    )
    assert arguments == []
    assert _["LONG"] == text


def evolved(**more):
    """`HERE`, with something more."""
    return Surroundings(python=sys.executable, **more)


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
@settings(max_examples=30, deadline=None)
def test_any_text(text):
    """`for_any_shell` says to sh what the script says."""
    done = run(for_any_shell(f"printf %s {json_quoted(text)}"))
    assert done.stdout.decode() == text


def json_quoted(text):
    """A text for sh, quoted in another way than the code under test does."""
    return "'" + "'\\''".join(text.split("'")) + "'"


def test_cannot_be_sent():
    """`remote_command` refuses what no word can hold, and what is longer than one can be."""
    for surroundings in (
        evolved(env={"A": "\0"}),
        evolved(env={"A B": "x"}),
        evolved(env={"A": "x" * MAX_COMMAND}),
    ):
        with pytest.raises(UsageProblem):
            remote_command(["-V"], surroundings)


def test_no_python(tmp_path):
    """A Python that is not there is a line on standard error and status 127."""
    done = run(remote_command(["-V"], Surroundings(python="/no/py thon")))
    assert done.returncode == NO_PYTHON
    assert done.stderr == b"twisted_dist: there is no Python /no/py thon\n"
    done = run(remote_command(["-V"], Surroundings(env={"PATH": str(tmp_path)})))
    assert done.returncode == NO_PYTHON
    assert done.stderr == b"twisted_dist: there is no Python: none of python3, python\n"


def fake(path, *, has_package, name):
    """A Python that says its name, and whether it has the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    test = "exit 0" if has_package else "exit 1"
    path.write_text(f'#!/bin/sh\ncase "$1" in -c) {test};; esac\necho {name} "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("here", "python3", "python", "chosen"),
    [
        (True, True, True, "here"),
        (False, True, True, "three"),
        (None, False, True, "plain"),
        (False, False, False, "here"),
        (None, False, False, "three"),
        (None, None, False, "plain"),
    ],
)
def test_which_python(tmp_path, here, python3, python, chosen):
    """The first Python with the package is taken: this very one, python3, python; or the first."""
    for name, path, has in (
        ("here", "opt/my python", here),
        ("three", "bin/python3", python3),
        ("plain", "bin/python", python),
    ):
        if has is not None:
            fake(tmp_path / path, has_package=has, name=name)
    surroundings = Surroundings(
        here=str(tmp_path / "opt/my python"), env={"PATH": str(tmp_path / "bin")}
    )
    assert run(remote_command(["go"], surroundings)).stdout == f"{chosen} go\n".encode()


def test_home(tmp_path):
    """A path below ~/ is one below the home directory there."""
    fake(tmp_path / "a b/python", has_package=True, name="mine")
    done = run(remote_command(["go"], Surroundings(python="~/a b/python")), home=tmp_path)
    assert done.stdout == b"mine go\n"


def test_activation(tmp_path):
    """`activate` finds its Python first, takes no input, and prints on standard error."""
    fake(tmp_path / "env/bin/python3", has_package=False, name="active")
    (tmp_path / "env/activate").write_text(
        f"echo noise; cat; VAR=lost; LEFT=kept; export LEFT; PATH={tmp_path}/env/bin:$PATH"
    )
    (tmp_path / ".bash_profile").write_text("echo hello; read x; export PROFILE=1")
    show = tmp_path / "env/bin/python3"
    show.write_text(f"#!/bin/sh\n[ \"$1\" = -c ] && exit 0\nexec {sys.executable} -c '{SHOW}'")
    command = remote_command(
        ["go"],
        Surroundings(here=sys.executable, activate="source env/activate", env={"VAR": "it's"}),
    )
    home = {"home": tmp_path}
    done = run(f"cd {tmp_path}; {command}", data=b"secret\n", **home)
    assert done.returncode == 0, done.stderr
    _, seen = json.loads(done.stdout)
    assert done.stderr == b"hello\nnoise\n"
    assert (seen["VAR"], seen["LEFT"], seen["PROFILE"]) == ("it's", "kept", "1")
    cat = remote_command(
        ["-c", "import sys; print(sys.stdin.read())"],
        Surroundings(python=sys.executable, activate="cat; echo noise"),
    )
    assert run(cat, data=b"secret", **home).stdout == b"secret\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [("false", 1), ("exit 7", 7), ("nothing-such x", 127), ("source no/such", 1), ("(exit 3)", 3)],
)
def test_activation_fails(line, status, tmp_path):
    """An activation that fails is named, with its line and status, and nothing runs."""
    done = run(remote_command(["-V"], evolved(activate=line)), home=tmp_path)
    assert done.returncode == ACTIVATION_FAILED
    told = f"twisted_dist: the activation failed with status {status}: {line}\n"
    assert done.stderr.decode().endswith(told)
    assert done.stdout == b""


def test_activation_without_bash(tmp_path):
    """Where there is no bash, sh activates, after its profile; a failure is named there too."""
    for name in ("printf", "sh", "env"):
        (tmp_path / name).symlink_to(shutil.which(name))
    (tmp_path / ".profile").write_text("ADDED=1; export ADDED")
    env = {"PATH": str(tmp_path)}
    command = remote_command(["-c", SHOW], evolved(activate=". ./act", env=env))
    (tmp_path / "act").write_text("VENV=1; export VENV; echo noise")
    done = run(f"cd {tmp_path}; {command}", home=tmp_path)
    assert done.returncode == 0, done.stderr
    _, seen = json.loads(done.stdout)
    assert (seen["ADDED"], seen["VENV"]) == ("1", "1")
    done = run(remote_command(["-V"], evolved(activate=". /no/such", env=env)), home=tmp_path)
    assert done.returncode == ACTIVATION_FAILED
    assert b"the activation failed with status 2: . /no/such" in done.stderr


@pytest.mark.parametrize("place", ["miniforge3", "elsewhere"])
def test_conda(tmp_path, place):
    """`conda activate x` works where conda was installed and no interactive shell has begun."""
    conda = tmp_path / place
    (conda / "etc/profile.d").mkdir(parents=True)
    (conda / "etc/profile.d/conda.sh").write_text(
        f'conda() {{ [ "$2" = x ] && PATH="{conda}/envs/x/bin:$PATH"; }}'
    )
    fake(conda / "envs/x/bin/python3", has_package=True, name="of-x")
    command = remote_command(["go"], Surroundings(activate="conda activate x"))
    env = {"CONDA_EXE": str(conda / "bin/conda")} if place == "elsewhere" else {}
    done = run(command, env=env, home=tmp_path)
    assert done.stdout == b"of-x go\n", done.stderr
    command = remote_command(["go"], Surroundings(activate="conda activate y"))
    assert run(command, env=env, home=tmp_path).returncode == ACTIVATION_FAILED
