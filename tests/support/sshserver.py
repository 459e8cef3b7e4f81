"""An SSH server in memory, on conch's public classes: it can say what OpenSSH's never would."""

from __future__ import annotations

from collections.abc import Callable

from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.conch.ssh.userauth import (
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_SUCCESS,
    SSHUserAuthServer,
)
from twisted.internet.task import Clock
from twisted.test.iosim import IOPump, connect, makeFakeClient, makeFakeServer

from tests.support.sshlogin import Answers
from twisted_dist.launchers.ssh.connection import ConchConnection
from twisted_dist.launchers.ssh.host_keys import HostKeyCheck
from twisted_dist.launchers.ssh.known_hosts import fingerprint
from twisted_dist.launchers.ssh.login import Login
from twisted_dist.launchers.ssh.patience import Patience
from twisted_dist.launchers.ssh.secrets import Secrets
from twisted_dist.launchers.ssh.settings import HostSettings
from twisted_dist.launchers.ssh.transport import ClientTransport

#: of the server; made once, since it is always the same one
HOST_KEY = Key._fromEd25519Components(
    bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
)


def refusal(*methods: bytes, partial: bool = False) -> tuple[int, bytes]:
    """The answer that a login needs something else."""
    return MSG_USERAUTH_FAILURE, NS(b",".join(methods)) + bytes([partial])


SUCCESS = (MSG_USERAUTH_SUCCESS, b"")


class ScriptedLogin(SSHService):
    """Answers requests to log in by a function of method and details.

    Attributes:
        methods: what was asked for.
    """

    name = b"ssh-userauth"
    protocolMessages = SSHUserAuthServer.protocolMessages

    def __init__(self, answer: Callable[[bytes, bytes], tuple[int, bytes] | None]) -> None:
        self.methods: list[bytes] = []
        self._answer = answer

    def ssh_USERAUTH_REQUEST(self, packet: bytes) -> None:
        _, _, method, rest = getNS(packet, 3)
        self.methods.append(method)
        self.reply(self._answer(method, rest))

    def ssh_USERAUTH_INFO_RESPONSE(self, packet: bytes) -> None:
        self.reply(self._answer(b"answer", packet))

    def reply(self, answer: tuple[int, bytes] | None) -> None:
        if answer is None:
            return
        self.transport.sendPacket(*answer)
        if answer == SUCCESS:
            self.transport.setService(self.transport.factory.connection)


class Session(SSHChannel):
    """A session, with what it was asked and sent."""

    name = b"session"

    def __init__(self, **how: object) -> None:
        super().__init__(**how)
        self.requests: list[tuple[bytes, bytes]] = []
        self.received = b""
        self.has_ended = False

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        self.requests.append((requestType, data))
        return self.conn.takes_commands

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def eofReceived(self) -> None:
        self.has_ended = True


class Sessions(SSHConnection):
    """Opens sessions, unless told otherwise.

    Attributes:
        opened: all that there were.
        window: what a session takes before it reads.
        asked: global requests that came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Session] = []
        self.window = 1 << 16
        self.takes_commands = True
        self.asked: list[bytes] = []

    def channel_session(self, windowSize: int, maxPacket: int, data: bytes) -> Session:
        session = Session(
            remoteWindow=windowSize, remoteMaxPacket=maxPacket, localWindow=self.window
        )
        self.opened.append(session)
        return session

    def gotGlobalRequest(self, requestType: bytes, data: bytes) -> int:
        self.asked.append(requestType)
        return 0


class _Factory:
    def __init__(self, login: ScriptedLogin, connection: Sessions) -> None:
        self.publicKeys = {HOST_KEY.sshType(): HOST_KEY.public()}
        self.privateKeys = {HOST_KEY.sshType(): HOST_KEY}
        self.login = login
        self.connection = connection
        self.primes = None

    def getService(self, transport: object, name: bytes) -> type | None:
        return (lambda: self.login) if name == b"ssh-userauth" else None


class ServerTransport(SSHServerTransport):
    """Conch's, with one host key."""

    supportedPublicKeys = (b"ssh-ed25519",)

    def __init__(self, login: ScriptedLogin, connection: Sessions) -> None:
        self.factory = _Factory(login, connection)


class Line:
    """A client and a server in memory, and the wire between them.

    Attributes:
        clock: of the client.
        person: whom the client asks.
        client: the client's transport.
        server: the server's.
        login: the server's, with what it was asked.
        sessions: the server's, of commands.
    """

    def __init__(
        self,
        answer: Callable[[bytes, bytes], tuple[int, bytes] | None] = lambda *_: SUCCESS,
        person: object = None,
        server: type[ServerTransport] = ServerTransport,
        **how: object,
    ) -> None:
        self.clock = Clock()
        self.person = person or Answers()
        values = {"fingerprints": {fingerprint(HOST_KEY.blob())}, **how}
        self.settings = HostSettings(alias="web", host="web", user="ann", **values)
        self.login = ScriptedLogin(answer)
        self.sessions = Sessions()
        self.server = server(self.login, self.sessions)
        self.secrets = Secrets(self.person)
        self.patience = Patience(self.clock, 20.0)
        host_key = HostKeyCheck(self.settings, self.secrets, self.patience)
        login = Login(self.clock, self.settings, self.secrets, self.patience, host_key)
        self.client = ClientTransport(login, host_key)
        self.outcome: list[object] = []
        self.client.ready.addBoth(self.outcome.append)
        self.pump: IOPump = connect(
            self.server, makeFakeServer(self.server), self.client, makeFakeClient(self.client)
        )
        self.flush()

    def flush(self) -> None:
        """Deliver what is under way."""
        self.pump.flush(advanceClock=False)

    def entered(self) -> ConchConnection:
        """The client's connection, once it is entered."""
        assert self.outcome == [None]
        return ConchConnection(self.clock, self.settings, self.client)

    def error(self) -> object:
        """What the client failed with."""
        (failure,) = self.outcome
        return failure.value
