"""`Questions`: what ``ssh`` would ask at a terminal, asked by this process instead.

``ssh`` runs in a session of its own, so that a Ctrl-C is not for it, and so has no terminal. It
runs a program, SSH_ASKPASS, for each question; ours asks here by a socket.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from twisted_dist.launchers.ssh.failures import printable
from twisted_dist.launchers.ssh.interface import Asker
from twisted_dist.launchers.ssh.openssh.place import Place
from twisted_dist.launchers.ssh.patience import Patience

#: bytes of a question: a keyboard-interactive server may write what it likes
MOST_BYTES: Final = 4096
#: of a question: who asks, and what
WORDS: Final = 2
_TOKEN = "TWISTED_DIST_ASKED_BY"
_PROGRAM = f"""
import os, socket, sys
if os.environ.get("SSH_ASKPASS_PROMPT") == "none":
    sys.exit()
with socket.socket(socket.AF_UNIX) as there:
    there.connect(sys.argv[1])
    words = os.environ["{_TOKEN}"], " ".join(sys.argv[2:])
    there.sendall("".join(each + chr(0) for each in words).encode("utf-8", "replace"))
    answer = b""
    while piece := there.recv(4096):
        answer += piece
if not answer.startswith(b"+"):
    sys.exit(1)
sys.stdout.buffer.write(answer[1:] + b"\\n")
"""
#: what is asked about host keys, and wants a word
_CONFIRMS = re.compile(r"\s*\(yes/no[^)]*\)\?\s*$", re.IGNORECASE)
_OF_USER = re.compile(r"(?P<user>\S+)@\S+'s password: ?")


class Questioner:
    """One ``ssh`` that may ask."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        #: `{subject: what it was answered last}`
        self.given: dict[str, str] = {}
        #: it has the turn, and keeps it until it is known what became of the answer
        self.has_turn = False


class Questions:
    """Asks one thing at a time, and the same thing once.

    A passphrase that was given is given to all who ask for it; a password to those who ask for
    the same user's, once it has let somebody in. Who asks again had a wrong answer.

    Args:
        reactor: listens.
        asker: the person; None for nobody, and then ``ssh`` is told not to ask.
        place: where the socket is.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorUNIX, asker: Asker | None, place: Place) -> None:
        self._asker = asker
        self._turn = DeferredLock()
        self._askers: dict[str, Questioner] = {}
        #: `{subject: answer}`, of passphrases and of passwords that were right
        self._known: dict[str, str] = {}
        self._port: IListeningPort | None = None
        self._program = ""
        if asker is not None:
            path = place.entry("ask")
            self._port = reactor.listenUNIX(path, _Listener(self._answer), mode=0o600)
            words = shlex.join([sys.executable, "-I", "-S", "-c", _PROGRAM, path])
            self._program = place.write("ask", f'#!/bin/sh\nexec {words} "$@"\n', 0o700)

    @property
    def is_possible(self) -> bool:
        """Whether there is anybody to ask."""
        return self._asker is not None

    def enter(self, patience: Patience) -> tuple[str, dict[str, str]]:
        """Let one ``ssh`` ask; its token, and the variables that it is to have."""
        token = os.urandom(16).hex()
        self._askers[token] = Questioner(patience)
        if not self.is_possible:
            return token, {"SSH_ASKPASS_REQUIRE": "never"}
        # before 8.4, ssh ran it only where there was a display, and no terminal
        return token, {
            "SSH_ASKPASS": self._program,
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": os.environ.get("DISPLAY") or ":",
            _TOKEN: token,
        }

    def leave(self, token: str, was_right: bool) -> None:
        """One has been let in, or has given up. Idempotent."""
        questioner = self._askers.pop(token, None)
        if questioner is not None:
            if was_right:
                self._known.update(questioner.given)
            self._release(questioner)

    def close(self) -> Deferred[None]:
        """Answer no more."""
        closed: Deferred[None] = Deferred()
        if self._port is None:
            closed.callback(None)
            return closed
        stopping = self._port.stopListening()
        if stopping is None:
            closed.callback(None)
            return closed
        stopping.addCallback(lambda _: None)
        return stopping

    async def _answer(self, token: str, prompt: str) -> str | None:
        questioner = self._askers.get(token)
        if questioner is None or self._asker is None:
            return None
        subject = _subject(prompt)
        with questioner.patience.paused():
            if not questioner.has_turn:
                await self._turn.acquire()
                questioner.has_turn = True
            known = self._known.get(subject)
            if known is not None and known != questioner.given.get(subject):
                answer: str | None = known
            elif _CONFIRMS.search(prompt):
                answer = "yes" if await self._asker.confirm(_question(prompt)) else "no"
            else:
                answer = await self._asker.secret(_shown(prompt))
        if answer is None or token not in self._askers:
            self._release(questioner)
            return None
        questioner.given[subject] = answer
        if answer == known or "passphrase" in subject:
            self._known[subject] = answer
            self._release(questioner)
        return answer

    def _release(self, questioner: Questioner) -> None:
        if questioner.has_turn:
            questioner.has_turn = False
            self._turn.release()


def _subject(prompt: str) -> str:
    """What is asked for: a user's password is the same on all hosts until one says it is not."""
    found = _OF_USER.fullmatch(prompt)
    return f"password of {found['user']}" if found else prompt


def _shown(prompt: str) -> str:
    """A question fit for a terminal; its lines are kept."""
    return "\n".join(printable(each) for each in prompt.splitlines()) + " "


def _question(prompt: str) -> str:
    """One to be confirmed, without the words of the answers."""
    return _shown(_CONFIRMS.sub("?", prompt)).rstrip()


class _Listener(Factory):
    noisy = False

    def __init__(self, answer: Callable[[str, str], Awaitable[str | None]]) -> None:
        self._answer = answer

    def buildProtocol(self, addr: object) -> Protocol:
        return _Asking(self._answer)


class _Asking(Protocol):
    """A token and a question, each ended by a NUL; answered by ``+`` and words, or not at all."""

    _log = Logger()

    def __init__(self, answer: Callable[[str, str], Awaitable[str | None]]) -> None:
        self._answer = answer
        self._received = b""
        self._answering: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MOST_BYTES:
            self._end()
        elif self._answering is None and self._received.count(b"\0") == WORDS:
            token, prompt, _ = self._received.decode("utf-8", "replace").split("\0")
            self._answering = Deferred.fromCoroutine(self._tell(token, prompt))
            self._answering.addErrback(
                lambda failure: self._log.failure("no answer to a question of ssh", failure)
            )

    async def _tell(self, token: str, prompt: str) -> None:
        try:
            answer = await self._answer(token, prompt)
            if answer is not None and self.transport is not None:
                self.transport.write(b"+" + answer.encode())
        finally:
            self._end()

    def _end(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
