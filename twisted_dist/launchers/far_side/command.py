r"""The one text that a host's sshd gives to the user's login shell, whichever that is.

``$SHELL -c TEXT`` may be bash, dash, zsh, tcsh or fish, whose quoting differs. In single quotes
all agree on what is neither a quote, a backslash before one, an exclamation mark nor a line end.
So the text is always::

    exec /bin/sh -c 'eval "$(printf %b "$1")"' twisted_dist 'SCRIPT'

where SCRIPT, for ``/bin/sh``, has each byte that means anything to any shell as ``\0ooo``, which
in single quotes is nothing special to any of them, and which POSIX' ``printf %b`` reads. The
script sets variables, activates an environment, finds a Python, and becomes it: no shell stays.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import field, frozen

from twisted_dist.errors import UsageProblem

#: status of a command whose activation failed; ssh itself has 255, shells 126 and up
ACTIVATION_FAILED: Final = 125
#: status of a command for which there is no Python: as shells say of what they do not find
NO_PYTHON: Final = 127
#: bytes of a command: Linux takes no longer word (MAX_ARG_STRLEN), and it goes through a shell
MAX_COMMAND: Final = 128 * 1024 - 1

_PLAIN: Final = frozenset((string.ascii_letters + string.digits + " _-./:=,+@").encode())
#: each byte as ``printf %b`` reads it
_SAFE: Final = [chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in range(256)]
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: tells by its status whether the package is there, as more than a directory of that name; by
#: ``importlib.util`` it would take twice as long
_HAS_PACKAGE: Final = (
    "import sys; n = 'twisted_dist'; "
    "f = [m.find_spec(n, None) for m in sys.meta_path if hasattr(m, 'find_spec')]; "
    "s = ([each for each in f if each] or [None])[0]; "
    "sys.exit(s is None or s.origin is None)"
)
#: where installers of conda and its like put it by default
_CONDA_PLACES: Final = (
    "miniconda3", "miniforge3", "mambaforge", "anaconda3", "miniconda", "anaconda",
    "/opt/conda", "/opt/miniconda3", "/opt/miniforge3", "/opt/anaconda3",
)  # fmt: skip
_CONDA: Final = re.compile(r"\b(conda|mamba)\b")
_MICROMAMBA: Final = re.compile(r"\bmicromamba\b")


@frozen(kw_only=True)
class Surroundings:
    """What programs on a host are started in.

    Attributes:
        python: the Python there, a path or a name; ``~/`` is the home directory there. None to
            look for one: what `activate` brings, or else `here`, and then ``python3`` and
            ``python``; the first that has this package, or else the first.
        here: path of a Python that may be there too: of who asks.
        activate: a line for bash, in a login shell, that makes an environment the current one:
            ``conda activate x``, ``source venv/bin/activate``, ``module load x``.
        env: variables, set before that and again after it.
    """

    python: str | None = None
    here: str | None = None
    activate: str = ""
    env: Mapping[str, str] = field(factory=dict)


def remote_command(arguments: Sequence[str], surroundings: Surroundings) -> str:
    """What the login shell of a host is to run, for its Python to run with *arguments*.

    ASCII, in one line. It ends with status `NO_PYTHON` or `ACTIVATION_FAILED`, and a line that
    says which on standard error, where those are the reasons.

    Raises:
        UsageProblem: something has a zero byte, a variable no name, or all is too long.
    """
    become = _python(surroundings) + [f'exec "$twisted_dist_python" {shlex.join(arguments)}']
    exports = _exports(surroundings.env)
    if surroundings.activate:
        script = _activated(surroundings.activate, exports, become)
    else:
        script = [*exports, *become]
    command = for_any_shell("\n".join(script))
    if len(command) > MAX_COMMAND:
        raise UsageProblem(f"a command of {len(command)} bytes is too long: {MAX_COMMAND} at most")
    return command


def for_any_shell(script: str) -> str:
    """A script for ``/bin/sh`` as a command that means the same to all login shells.

    Raises:
        UsageProblem: it has a zero byte, which no word can have.
    """
    data = script.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise UsageProblem("a zero byte can be in no command, path or variable")
    safe = "".join(map(_SAFE.__getitem__, data))
    return f"exec /bin/sh -c 'eval \"$(printf %b \"$1\")\"' twisted_dist '{safe}'"


def _exports(env: Mapping[str, str]) -> list[str]:
    for name in env:
        if not _VARIABLE.match(name):
            raise UsageProblem(f"{name!r} is no name of a variable")
    return [f"{name}={shlex.quote(value)}; export {name}" for name, value in env.items()]


def _path(path: str) -> str:
    """A path as one word, in which the home directory is the one there."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)


def _fail(message: str, status: int) -> str:
    return f"{{ printf '%s\\n' {shlex.quote(f'twisted_dist: {message}')} >&2; exit {status}; }}"


def _python(surroundings: Surroundings) -> list[str]:
    """Lines that leave a Python in ``$twisted_dist_python``."""
    if surroundings.python is not None:
        word = _path(surroundings.python)
        missing = _fail(f"there is no Python {surroundings.python}", NO_PYTHON)
        return [
            f"twisted_dist_python={word}",
            f'command -v "$twisted_dist_python" >/dev/null 2>&1 || {missing}',
        ]
    names = ["python3", "python"]
    if surroundings.here is not None and not surroundings.activate:
        names.insert(0, surroundings.here)
    return [
        "twisted_dist_python=",
        f"for twisted_dist_each in {shlex.join(names)}; do",
        'command -v "$twisted_dist_each" >/dev/null 2>&1 || continue',
        ': "${twisted_dist_python:=$twisted_dist_each}"',
        f'if "$twisted_dist_each" -c {shlex.quote(_HAS_PACKAGE)} </dev/null >/dev/null 2>&1; then',
        "twisted_dist_python=$twisted_dist_each; break; fi",
        "done",
        '[ -n "$twisted_dist_python" ] || '
        + _fail(f"there is no Python: none of {', '.join(names)}", NO_PYTHON),
    ]


def _activated(activate: str, exports: list[str], become: list[str]) -> list[str]:
    """A script that does all in a login shell, and what *activate* says first.

    Meanwhile, standard input is for nobody, and what is printed goes to standard error: who
    started this reads what the program prints, and the program what they send.
    """
    inner = [
        f"twisted_dist_line={shlex.quote(activate)}",
        "twisted_dist_failed() {",
        "printf '%s\\n' \"twisted_dist: the activation failed with status $1:"
        ' $twisted_dist_line" >&2',
        f"exit {ACTIVATION_FAILED}; }}",
        # an activation may end the shell, too
        "trap 'twisted_dist_failed $?' EXIT",
        '[ -n "$BASH_VERSION" ] || { [ ! -r /etc/profile ] || . /etc/profile',
        '[ ! -r "$HOME/.profile" ] || . "$HOME/.profile"; }',
        *_conda(activate),
        'eval "$twisted_dist_line"',
        "twisted_dist_status=$?",
        "trap - EXIT",
        '[ "$twisted_dist_status" = 0 ] || twisted_dist_failed "$twisted_dist_status"',
        *exports,
        "exec 1>&3 0<&4 3>&- 4<&-",
        *become,
    ]
    return [
        *exports,
        "exec 3>&1 4<&0 1>&2 </dev/null",
        f"twisted_dist_script={shlex.quote(chr(10).join(inner))}",
        "if command -v bash >/dev/null 2>&1; then",
        'exec bash -l -c "$twisted_dist_script" twisted_dist; fi',
        'exec /bin/sh -c "$twisted_dist_script" twisted_dist',
    ]


def _conda(activate: str) -> list[str]:
    """Lines that define what ``conda init`` would have defined in an interactive shell."""
    lines = []
    if _CONDA.search(activate):
        places = [
            shlex.quote(each) if each.startswith("/") else f'"$HOME"/{each}'
            for each in _CONDA_PLACES
        ]
        lines += [
            # a function: `conda activate` changes the shell itself
            'case "$(command -V conda 2>/dev/null)" in *function*) ;; *)',
            "twisted_dist_conda=$(command -v conda)",
            'for twisted_dist_each in "${CONDA_EXE%/*/*}" "${twisted_dist_conda%/*/*}" '
            f"{' '.join(places)}; do",
            'if [ -n "$twisted_dist_each" ] && '
            '[ -r "$twisted_dist_each/etc/profile.d/conda.sh" ]; then',
            '. "$twisted_dist_each/etc/profile.d/conda.sh"',
            '[ ! -r "$twisted_dist_each/etc/profile.d/mamba.sh" ] || '
            '. "$twisted_dist_each/etc/profile.d/mamba.sh"',
            "break; fi; done ;; esac",
        ]
    if _MICROMAMBA.search(activate):
        lines += [
            'PATH="$PATH:$HOME/.local/bin:$HOME/bin"',
            'eval "$(micromamba shell hook --shell posix 2>/dev/null)"',
        ]
    return lines
