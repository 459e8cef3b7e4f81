"""`Authentication`: logs in, with keys first and then with what a person knows.

Conch's own `SSHUserAuthClient` signs with SHA-1 for RSA keys, asks the server again after each
failure, which counts as one more, and does not say what it has tried. This one is a service of
its own, that sends a request and waits for the answer.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.userauth import (
    MSG_USERAUTH_INFO_RESPONSE,
    MSG_USERAUTH_REQUEST,
    SSHUserAuthClient,
)
from twisted.internet.defer import CancelledError, Deferred

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.algorithms import SIGNATURES
from twisted_dist.launchers.ssh.failures import printable
from twisted_dist.launchers.ssh.identities import Candidate
from twisted_dist.launchers.ssh.login import Login
from twisted_dist.launchers.ssh.quiet import QUIET
from twisted_dist.launchers.ssh.replies import (
    QUESTIONS,
    Refusal,
    Reply,
    Request60,
    Success,
    is_password,
    read_prompts,
)
from twisted_dist.launchers.ssh.secrets import PROMPTS

_CONNECTION: Final = b"ssh-connection"


class Authentication(SSHService):
    """The service ``ssh-userauth``, this side of it; for one login."""

    name = b"ssh-userauth"
    protocolMessages = SSHUserAuthClient.protocolMessages
    transport: Any
    _log = QUIET

    def __init__(
        self,
        login: Login,
        entered: Callable[[], None],
        failed: Callable[[SSHError], None],
    ) -> None:
        self._login = login
        self._entered = entered
        self._failed = failed
        self._waiting: Deferred[Reply] | None = None
        self._running: Deferred[None] | None = None
        #: keys that the server was asked about, by name
        self._tried: list[str] = []
        self._notes: list[str] = []
        self._passwords: set[str] = set()
        self._prompts_left = PROMPTS
        #: whether keyboard-interactive was refused without a question
        self._is_mute = False

    # -- conch's service --

    def serviceStarted(self) -> None:
        """Begin."""
        self._running = Deferred.fromCoroutine(self._run())

    def serviceStopped(self) -> None:
        """It is done, or the connection is lost."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def ssh_USERAUTH_SUCCESS(self, packet: bytes) -> None:
        """An answer."""
        self._answer(Success())

    def ssh_USERAUTH_FAILURE(self, packet: bytes) -> None:
        """An answer."""
        methods, rest = getNS(packet)
        self._answer(Refusal(tuple(methods.split(b",")) if methods else (), bool(rest[0])))

    def ssh_USERAUTH_PK_OK(self, packet: bytes) -> None:
        """An answer, or a question."""
        self._answer(Request60(packet))

    def ssh_USERAUTH_BANNER(self, packet: bytes) -> None:
        """Law and ornament; fifty hosts' worth of it helps nobody."""

    def _answer(self, reply: Reply) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(reply)

    def explain(self, said: str) -> SSHError:
        """Why the server ended the connection while this was going on."""
        if "too many authentication failures" in said.lower():
            return SSHError(
                f"{self._login.alias}: its sshd gave up after too many keys or passwords "
                f"(MaxAuthTries); tried {self._listed()}. Name the right key (IdentityFile, "
                "with IdentitiesOnly yes)",
                "auth",
            )
        return SSHError(
            f"{self._login.alias}: its sshd ended the connection during the login: {said}",
            "auth" if said else "lost",
            is_passing=not said,
        )

    # -- the login --

    async def _run(self) -> None:
        try:
            await self._log_in()
        except CancelledError:
            return
        except SSHError as error:
            self._running = None
            self._failed(error)
            return
        except Exception as error:  # a service has no caller that would hear of it
            self._running = None
            self._failed(SSHError(f"{self._login.alias}: the login failed: {error!r}", "protocol"))
            return
        self._running = None
        self._entered()

    async def _log_in(self) -> None:
        reply: Reply = await self._request(b"none", b"")
        candidates: list[Candidate] | None = None
        while not isinstance(reply, Success):
            if not isinstance(reply, Refusal):
                raise self._nonsense()
            if b"publickey" in reply.methods and candidates is None:
                candidates = await self._login.candidates()
            if b"publickey" in reply.methods and candidates:
                reply = await self._try_key(candidates.pop(0), reply)
            elif b"keyboard-interactive" in reply.methods and self._may_interact():
                reply = await self._interact()
            elif b"password" in reply.methods and self._may_prompt():
                reply = await self._try_password()
            else:
                raise self._denied(reply)
            if isinstance(reply, Refusal) and reply.is_partial:
                self._prompts_left = PROMPTS

    def _request(self, method: bytes, details: bytes) -> Deferred[Reply]:
        user = self._login.user.encode()
        body = NS(user) + NS(_CONNECTION) + NS(method) + details
        return self._send(MSG_USERAUTH_REQUEST, body)

    def _send(self, message: int, body: bytes) -> Deferred[Reply]:
        waiting: Deferred[Reply] = Deferred()
        self._waiting = waiting
        self.transport.sendPacket(message, body)
        return waiting

    # keys

    async def _try_key(self, candidate: Candidate, before: Refusal) -> Reply:
        key = await candidate.public()
        if key is None:
            self._notes.append(f"{candidate.name}: not opened, no passphrase")
            return before
        algorithm = self._algorithm(key.sshType())
        if algorithm is None:
            self._notes.append(f"{candidate.name}: the server takes RSA keys by SHA-1 only")
            return before
        self._tried.append(candidate.name)
        which = NS(algorithm) + NS(key.blob())
        reply = await self._request(b"publickey", b"\0" + which)
        if not isinstance(reply, Request60):
            return reply
        user = self._login.user.encode()
        signed = NS(self.transport.sessionID) + bytes((MSG_USERAUTH_REQUEST,))
        signed += NS(user) + NS(_CONNECTION) + NS(b"publickey") + b"\1" + which
        signature = await candidate.sign(signed, algorithm)
        if signature is None:
            self._notes.append(f"{candidate.name}: the server would take it, but nobody signed")
            return before
        return await self._request(b"publickey", b"\1" + which + NS(signature))

    def _algorithm(self, key_type: bytes) -> bytes | None:
        ours = SIGNATURES[key_type]
        listed = self.transport.peerExtensions.get(b"server-sig-algs")
        if listed is None:
            # servers that do not say what they take: those of before 2016 take SHA-1 only, and
            # refuse; all others take this
            return ours[-1]
        theirs = listed.split(b",")
        return next((each for each in ours if each in theirs or key_type != b"ssh-rsa"), None)

    # what a person knows

    def _may_prompt(self) -> bool:
        return self._prompts_left > 0 and self._login.may_send_passwords()

    def _may_interact(self) -> bool:
        return self._may_prompt() and not self._is_mute

    async def _try_password(self) -> Reply:
        prompt = f"{self._login.where}'s password: "

        async def send(password: str) -> Reply:
            return await self._request(b"password", b"\0" + NS(password.encode()))

        reply = await self._with_password(prompt, send)
        if isinstance(reply, Request60):
            raise SSHError(
                f"{self._login.alias}: the password has expired; set a new one by ssh first", "auth"
            )
        return reply

    async def _with_password(self, prompt: str, send: Callable[[str], Awaitable[Reply]]) -> Reply:
        """Send a password that is known, or that a person types.

        Nobody else is asked before it is known whether that one was right: it will do for the
        other hosts too, and a person types it once.
        """
        login = self._login
        async with login.secrets.turn(login.patience):
            password = login.secrets.worked(login.user)
            if password is None or password in self._passwords:
                return await self._ask_and_send(prompt, send)
        self._passwords.add(password)
        return await send(password)

    async def _ask_and_send(self, prompt: str, send: Callable[[str], Awaitable[Reply]]) -> Reply:
        login = self._login
        self._prompts_left -= 1
        password = await login.secrets.ask(prompt, login.patience)
        if password is None:
            raise self._nobody_answers()
        self._passwords.add(password)
        reply = await send(password)
        if isinstance(reply, Success) or (isinstance(reply, Refusal) and reply.is_partial):
            login.secrets.remember(login.user, password)
        return reply

    async def _interact(self) -> Reply:
        reply = await self._request(b"keyboard-interactive", NS(b"") + NS(b""))
        self._is_mute = not isinstance(reply, Request60)
        for _ in range(QUESTIONS):
            if not isinstance(reply, Request60):
                return reply
            prompts = read_prompts(reply.packet)
            if len(prompts) == 1 and is_password(*prompts[0]):
                where = f"({self._login.where}) {printable(prompts[0][0])} "
                reply = await self._with_password(where, self._send_answer)
            else:
                reply = await self._ask_all(prompts)
        raise self._nonsense()

    async def _send_answer(self, answer: str) -> Reply:
        reply = await self._send_answers([answer])
        # PAM has a round without questions at its end
        for _ in range(QUESTIONS):
            if not (isinstance(reply, Request60) and not read_prompts(reply.packet)):
                break
            reply = await self._send_answers([])
        return reply

    def _send_answers(self, answers: list[str]) -> Deferred[Reply]:
        body = struct.pack(">L", len(answers)) + b"".join(NS(each.encode()) for each in answers)
        return self._send(MSG_USERAUTH_INFO_RESPONSE, body)

    async def _ask_all(self, prompts: list[tuple[str, bool]]) -> Reply:
        """Questions that are not for the password alone, such as for a code of the minute."""
        login = self._login
        answers: list[str] = []
        if prompts:
            self._prompts_left -= 1
            async with login.secrets.turn(login.patience):
                for prompt, _ in prompts:
                    shown = f"({login.where}) {printable(prompt)} "
                    answer = await login.secrets.ask(shown, login.patience)
                    if answer is None:
                        raise self._nobody_answers()
                    answers.append(answer)
        return await self._send_answers(answers)

    # why not

    def _listed(self) -> str:
        return ", ".join(self._tried) if self._tried else "no key"

    def _noted(self) -> str:
        notes = self._notes + self._login.problems
        return f" ({'; '.join(notes)})" if notes else ""

    def _denied(self, refusal: Refusal) -> SSHError:
        methods = printable(b", ".join(refusal.methods)) or "nothing"
        passwords = f", {len(self._passwords)} passwords" if self._passwords else ""
        if not self._login.may_send_passwords():
            passwords = ", no password since its host key has changed"
        todo = ""
        if b"publickey" in refusal.methods:
            todo = f". Is its .pub in the ~/.ssh/authorized_keys of {self._login.user} there?"
            if not self._tried:
                todo = ". ssh-keygen makes one, and ssh-copy-id puts it there"
        return SSHError(
            f"{self._login.alias}: permission denied to {self._login.user}; its sshd takes "
            f"{methods}; tried {self._listed()}{passwords}{self._noted()}{todo}",
            "auth",
        )

    def _nobody_answers(self) -> SSHError:
        return SSHError(
            f"{self._login.alias}: it wants a password of {self._login.user}, and nobody answers; "
            f"tried {self._listed()}{self._noted()}. Use a key (ssh-copy-id), or a terminal",
            "auth",
        )

    def _nonsense(self) -> SSHError:
        return SSHError(f"{self._login.alias}: its sshd breaks the protocol at login", "protocol")
