"""What runs on a host to put this package there: alone, with the standard library.

It says that it wants the archive, or that it is there already, takes it from standard input,
checks it, unpacks it under another name, sees that it runs, and gives it its name in one step.
So what has that name is whole, though several hosts with one home directory do this at a time.
Works from Python 3.6 on, as the probe does.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from typing import Any

#: begins the names of directories that are being filled
DRAFT = "draft-"
#: seconds after which nobody fills them any more
STALE_S = 86400.0
#: of an archive that is unpacked, at most so many times what was sent
MOST_TIMES = 50
MANIFEST = "manifest.json"
SITE = "site"


class NotThereError(Exception):
    """Why it cannot be there; for the person who wants it."""


def cache() -> str:
    """The directory for all versions, which is the user's alone."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = os.path.join(base, "twisted_dist")
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.stat(path)
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotThereError(path + " can be written by others: chmod 700, or remove it")
    return path


def is_whole(path: str) -> bool:
    """Whether all is there that was put there; who cleans caches may have taken some."""
    try:
        with open(os.path.join(path, MANIFEST)) as file:
            sizes = json.load(file)
        return all(
            os.stat(os.path.join(path, SITE, name)).st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def receive(request: "dict[str, Any]") -> bytes:
    """The archive, from standard input, as long and with the digest that was said."""
    data = sys.stdin.buffer.read(request["size"])
    if len(data) != request["size"] or hashlib.sha256(data).hexdigest() != request["sha256"]:
        raise NotThereError("of the archive, %d of %d bytes came" % (len(data), request["size"]))
    return data


def unpack(data: bytes, site: str) -> "dict[str, int]":
    """Files below *site*, by name, with their sizes; nothing but files, and nowhere else."""
    sizes = {}  # type: dict[str, int]
    room = MOST_TIMES * len(data)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isfile() or "" in parts or ".." in parts or "." in parts:
                raise NotThereError("the archive has " + repr(member.name))
            room -= member.size
            if room < 0:
                raise NotThereError("the archive is larger than it could be")
            path = os.path.join(site, *parts)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None
            with source, open(path, "wb") as file:
                shutil.copyfileobj(source, file)
            sizes[member.name] = member.size
    return sizes


def tail(text: bytes) -> str:
    """The last words of a program."""
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-500:]


def run(words: "list[str]", environment: "dict[str, str]") -> "tuple[int, str]":
    """A program's status and last words; it has no standard input, and may print nothing here."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, tail(done.stdout)


def install(requirements: "list[str]", draft: str, site: str) -> None:
    """What the package needs, by pip: this Python's, or one in a venv made for that."""
    python = sys.executable
    status, said = run([python, "-m", "pip", "--version"], {})
    if status:
        venv = os.path.join(draft, "venv")
        status, said = run([python, "-m", "venv", venv], {})
        if status:
            raise NotThereError(
                "it needs other files than those here, and %s has neither pip nor venv: %s"
                % (python, said)
            )
        python = os.path.join(venv, "bin", "python")
    status, said = run(
        [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
         "--target", site, *requirements],
        {"PIP_USER": "0"},
    )  # fmt: skip
    if status:
        raise NotThereError("pip install: " + said)
    shutil.rmtree(os.path.join(draft, "venv"), ignore_errors=True)


def all_sizes(site: str) -> "dict[str, int]":
    """Of whatever is there."""
    return {
        os.path.relpath(os.path.join(where, name), site): os.stat(os.path.join(where, name)).st_size
        for where, _, names in os.walk(site)
        for name in names
        if not name.endswith(".pyc")
    }


def build(request: "dict[str, Any]", directory: str, place: str) -> None:
    """Fill a directory beside *place*, and give it that name."""
    data = receive(request)
    draft = tempfile.mkdtemp(prefix=DRAFT, dir=directory)
    try:
        site = os.path.join(draft, SITE)
        os.mkdir(site)
        if request["requirements"]:
            install(request["requirements"], draft, site)
        unpack(data, site)
        status, said = run([sys.executable, "-c", request["check"]], {"PYTHONPATH": site})
        if status:
            raise NotThereError("it does not run there: " + said)
        with open(os.path.join(draft, MANIFEST), "w") as file:
            json.dump(all_sizes(site), file)
            file.flush()
            os.fsync(file.fileno())
        if os.path.lexists(place) and not is_whole(place):
            os.rename(place, os.path.join(draft, "damaged"))
        try:
            os.rename(draft, place)
        except OSError as problem:
            # another host with this home, or another cluster, was faster
            if problem.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not is_whole(place):
                raise
        shutil.rmtree(os.path.join(place, "damaged"), ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def clean(directory: str) -> None:
    """Take away what was begun by somebody who was killed."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.startswith(DRAFT) and time.time() - os.stat(path).st_mtime > STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def main(marker: str, text: str) -> None:
    """See that it is there; lines that begin with *marker* say so, or what is wanted."""

    def say(state: str, **more: str) -> None:
        sys.stdout.write("\n" + marker + json.dumps(dict(more, state=state)) + "\n")
        sys.stdout.flush()

    request = json.loads(text)
    directory = "the cache"
    try:
        directory = cache()
        place = os.path.join(directory, request["name"])
        is_new = not is_whole(place)
        if is_new:
            say("send")
            clean(directory)
            build(request, directory, place)
        path = os.path.join(place, SITE)
        say("done", python=sys.executable, path=path, new="yes" if is_new else "")
    except NotThereError as problem:
        say("failed", why=str(problem))
    except tarfile.TarError as problem:
        say("failed", why="the archive cannot be read: %s" % problem)
    except OSError as problem:
        say("failed", why="%s: %s" % (problem.filename or directory, problem.strerror or problem))
