"""`OpenSSHClient`: enters hosts by the system's ``ssh``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import out_of_time
from twisted_dist.launchers.ssh.interface import Asker
from twisted_dist.launchers.ssh.openssh.configuration import Pin, configuration, pin_program
from twisted_dist.launchers.ssh.openssh.master import OpenSSHConnection
from twisted_dist.launchers.ssh.openssh.place import Place
from twisted_dist.launchers.ssh.openssh.questions import Questions
from twisted_dist.launchers.ssh.openssh.words import WrongFingerprintError
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.settings import HostSettings

#: the algorithms of an RSA key; other keys have one of their type's name
_OF_RSA = ("rsa-sha2-256", "rsa-sha2-512", "ssh-rsa")


def _shell(shell: str) -> str:
    """What ``ssh`` runs commands here with: a user of a service may have a shell that does not."""
    return "/bin/sh" if os.path.basename(shell) in {"", "nologin", "false"} else shell


class _Entry:
    """A host that is being entered, in one attempt or in several."""

    def __init__(
        self,
        settings: HostSettings,
        place: Place,
        questions: Questions,
        program: tuple[str, ...],
    ) -> None:
        self.settings = settings
        self.place = place
        self.questions = questions
        self.program = program
        self._seen = place.entry("k")
        self._without: frozenset[str] = frozenset()

    def pin(self, program: str) -> Pin:
        """How its key is compared now."""
        return Pin(program, self._seen, self._without)

    def learn_types(self) -> bool:
        """Exclude the type of key that it showed; whether there was another one."""
        path = Path(self._seen)
        kinds = path.read_text(encoding="ascii").split() if path.exists() else []
        found = {each for kind in kinds for each in (_OF_RSA if kind == "ssh-rsa" else (kind,))}
        is_new = not found <= self._without
        self._without |= found
        return is_new


class OpenSSHClient:
    """An `SSHClient` by another program.

    Args:
        reactor: of everything.
        asker: the person; None for nobody.
        words: the program, and options for it.
        environ: its variables.
    """

    def __init__(
        self,
        reactor: Any,
        asker: Asker | None,
        *,
        environ: Mapping[str, str],
        words: Sequence[str] = ("ssh",),
    ) -> None:
        self._reactor = reactor
        self._asker = asker
        self._environ = {**environ, "SHELL": _shell(environ.get("SHELL", ""))}
        self._words = tuple(words)
        self._place: Place | None = None
        self._questions: Questions | None = None
        self._pin = ""
        self._connections: set[OpenSSHConnection] = set()

    async def connect(self, settings: HostSettings) -> OpenSSHConnection:
        """Enter a host once.

        Cancelled, or out of time, it leaves no process.

        Raises:
            SSHError: it could not be entered.
        """
        program = shutil.which(self._words[0], path=self._environ.get("PATH"))
        if program is None:
            raise SSHError(
                f"{settings.alias}: there is no program {self._words[0]!r} here; install the "
                "OpenSSH client",
                "settings",
            )
        place, questions = self._open()
        entry = _Entry(settings, place, questions, (program, *self._words[1:]))
        wrong: SSHError | None = None
        while True:
            try:
                return await self._enter(entry)
            except WrongFingerprintError as error:
                # a host shows a key of one type, and a fingerprint does not tell its type
                wrong = wrong or error
                if not entry.learn_types():
                    raise wrong from None
            except SSHError as error:
                if wrong is not None and error.kind == "protocol":
                    raise wrong from None
                raise

    async def _enter(self, entry: _Entry) -> OpenSSHConnection:
        settings, questions = entry.settings, entry.questions
        text = configuration(settings, questions.is_possible, entry.pin(self._pin))
        connection = OpenSSHConnection(
            self._reactor, settings, entry.place, entry.program, self._environ
        )
        patience = Patience(self._reactor, settings.connect_timeout_s)
        token, variables = questions.enter(patience)
        was_right = False
        connection.begin(text, variables)
        self._connections.add(connection)
        # its commands are told of its end by processes of their own, somewhat later
        gone = connection.lost().addCallback(lambda _: connection.close())
        gone.addCallback(lambda _: self._connections.discard(connection))
        try:
            await patience.limit(connection.ready)
            was_right = True
        except BaseException as error:
            await connection.close()
            if isinstance(error, CancelledError) and patience.is_over:
                raise out_of_time(settings, patience.seconds, "") from None
            raise
        finally:
            questions.leave(token, was_right)
        return connection

    def close(self) -> Deferred[None]:
        """Fires once all programs have ended and the directory of sockets is gone. Idempotent."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        place, questions = self._place, self._questions
        self._place = self._questions = None
        await defer.gatherResults([each.close() for each in tuple(self._connections)])
        if questions is not None:
            await questions.close()
        if place is not None:
            await place.close()

    def _open(self) -> tuple[Place, Questions]:
        if self._place is None or self._questions is None:
            self._place = Place(self._reactor, self._environ)
            self._questions = Questions(self._reactor, self._asker, self._place)
            self._pin = self._place.write("pin", pin_program())
        return self._place, self._questions
