"""Files and directories for tasks: `Client.upload_file`, `Client.upload_directory`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.threads import deferToThreadPool

from twisted_dist.client.data_methods import DataMethods
from twisted_dist.client.pickling import Calls
from twisted_dist.client.session import Session
from twisted_dist.errors import RefusedError, UsageProblem
from twisted_dist.execution.upload_rules import (
    MAX_UPLOAD_BYTES,
    MIB,
    PIECE_BYTES,
    check_module,
    check_name,
    digest_of,
)

#: seconds that workers may take to get what is uploaded once more
AGAIN_S: Final = 60.0


def _check_size(name: str, size: int) -> None:
    if size > MAX_UPLOAD_BYTES:
        raise UsageProblem(
            f"{name} takes {size / MIB:,.1f} MiB, more than {MAX_UPLOAD_BYTES // MIB}: scatter() "
            "data and pass the future, or put the file where workers read it"
        )


def read_file(path: str | PathLike[str]) -> tuple[str, bytes]:
    """The name and the bytes of a file to upload. Raises UsageProblem and OSError."""
    file = Path(path).absolute()
    if file.is_dir():
        raise UsageProblem(f"{file} is a directory: upload_directory() it")
    check_name(file.name)
    _check_size(file.name, file.stat().st_size)
    blob = file.read_bytes()
    _check_size(file.name, len(blob))
    return file.name, blob


def read_directory(path: str | PathLike[str]) -> tuple[str, bytes]:
    """The name and the archive of a directory to upload. Raises UsageProblem and OSError."""
    from twisted_dist.execution.archive import pack

    directory = Path(path).resolve()
    if not directory.is_dir():
        raise UsageProblem(f"{directory} is no directory")
    if (directory / "__init__.py").is_file():
        check_module(directory.name)
    name = f"{directory.name}/"
    check_name(name)
    blob = pack(directory)
    _check_size(directory.name, len(blob))
    return name, blob


async def upload(session: Session, name: str, blob: bytes, timeout: float) -> None:
    """Give an upload to all workers; in the reactor's thread.

    Raises:
        RefusedError: the scheduler or a worker could not take it.
        TimeoutError: some workers have not got it in time.
    """
    answer = await session.ask("upload", name, _parcel(digest_of(blob)), len(blob), timeout)
    offset = 0
    while answer["wanted"]:
        piece = blob[offset : offset + PIECE_BYTES]
        answer = await session.ask("upload-piece", name, _parcel(piece), offset, timeout)
        offset += len(piece)
    if answer["failed"]:
        raise RefusedError(f"{name.rstrip('/')} could not be had by {answer['failed']}")
    if answer["late"]:
        late = ", ".join(answer["late"])
        raise TimeoutError(f"{name.rstrip('/')} is not there within {timeout:g} s: {late}")


def _parcel(blob: bytes) -> Calls:
    return Calls([blob], [[]], any_deps=False, held=[])


async def _send(
    session: Session,
    read: Callable[[str | PathLike[str]], tuple[str, bytes]],
    path: str | PathLike[str],
    timeout: float,
) -> None:
    # a disk may be slow, and to pack takes seconds
    reactor = session.reactor
    name, blob = await deferToThreadPool(reactor, reactor.getThreadPool(), read, path)
    await upload(session, name, blob, timeout)
    session.uploaded[name] = blob
    session.began_again = partial(_upload_again, session)


def _upload_again(session: Session) -> None:
    """Give a scheduler that knows nothing of before what this client has uploaded.

    Workers that were there have it; those that come later need it.
    """

    async def each() -> None:
        for name, blob in list(session.uploaded.items()):
            await upload(session, name, blob, AGAIN_S)

    done = defer.Deferred.fromCoroutine(each())
    done.addErrback(lambda f: session.log.warn("uploads are not there again: {f}", f=f.value))


class UploadMethods(DataMethods):
    """Gives files to all workers. As `DataMethods`', these block, or give Deferreds."""

    def upload_file(self, path: str | PathLike[str], timeout: float = 60.0) -> Any:
        """Give a file to all workers, those of now and those to come.

        A module (``.py``) can be imported by tasks, by its name; what is in an archive
        (``.zip``, ``.egg``, ``.whl``) too, but for modules in C; any other file tasks find at
        ``twisted_dist.uploaded(name)``. Returns when every worker that is there has it. What
        the network has already, by its contents, is not sent again.

        A file of the same name takes the other's place: tasks that start from then on import
        it anew, what runs goes on with what it has. `restart` forgets all uploads.

        Args:
            path: of the file, 64 MiB at most; its last part is its name.
            timeout: seconds that workers may take to get it.

        Raises:
            UsageProblem: its name or size will not do; nothing was sent.
            RefusedError: a worker could not take it, says which and why; or the scheduler, which
                keeps 256 MiB and 1,000 names.
            TimeoutError: some workers have not got it in time; they will have it before their
                next task.
        """
        return self.run_coroutine(_send, self.session, read_file, path, timeout)

    def upload_directory(self, path: str | PathLike[str], timeout: float = 60.0) -> Any:
        """Give a directory to all workers, those of now and those to come.

        With an ``__init__.py`` it is a package, which tasks import by its name. Otherwise the
        modules and packages in it can be imported by theirs. In either case tasks find it at
        ``twisted_dist.uploaded(name)``. All else is as of `upload_file`.

        Left out are ``.git``, ``.hg``, ``.svn``, ``__pycache__``, other tools' caches, and empty
        directories.

        Args:
            path: of the directory: 10,000 files, 256 MiB, 64 MiB packed at most.
            timeout: seconds that workers may take to get it.

        Raises:
            UsageProblem: as of `upload_file`; or something in it is neither a file nor a
                directory, or a link that leads out, or to a directory.
            RefusedError: as of `upload_file`.
            TimeoutError: as of `upload_file`.
        """
        return self.run_coroutine(_send, self.session, read_directory, path, timeout)
