"""`OpenSSHClient`: enters hosts by the system's ``ssh``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import out_of_time
from twisted_dist.launchers.ssh.interface import Asker
from twisted_dist.launchers.ssh.openssh.configuration import configuration, pin_program
from twisted_dist.launchers.ssh.openssh.master import OpenSSHConnection
from twisted_dist.launchers.ssh.openssh.place import Place
from twisted_dist.launchers.ssh.openssh.questions import Questions
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.settings import HostSettings


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
        self._environ = environ
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
        text = configuration(settings, questions.is_possible, self._pin)
        connection = OpenSSHConnection(
            self._reactor, settings, place, (program, *self._words[1:]), self._environ
        )
        patience = Patience(self._reactor, settings.connect_timeout_s)
        token, variables = questions.enter(patience)
        was_right = False
        connection.begin(text, variables)
        self._connections.add(connection)
        connection.lost().addCallback(lambda _: self._connections.discard(connection))
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
        await defer.gatherResults([each.close() for each in self._connections])
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
