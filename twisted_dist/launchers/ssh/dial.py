"""`dial`: connects to a host's port, so that giving up means what it says."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint

from twisted_dist.errors import SSHError
from twisted_dist.launchers.ssh.failures import dial_error
from twisted_dist.launchers.ssh.settings import HostSettings
from twisted_dist.launchers.ssh.transport import ClientTransport


async def dial(
    settings: HostSettings, way: IStreamClientEndpoint, transport: ClientTransport
) -> None:
    """Connect *transport*.

    `HostnameEndpoint` fails with what looks like a wrong name when it is cancelled while it
    looks one up. Here a cancel is a cancel.

    Raises:
        SSHError: nobody could be connected to.
    """
    is_given_up = False
    dialling = connectProtocol(way, transport)

    def give_up(_: Deferred[None]) -> None:
        nonlocal is_given_up
        is_given_up = True
        dialling.cancel()

    waiting: Deferred[None] = Deferred(give_up)

    def connected(_: ClientTransport) -> None:
        if is_given_up:
            transport.abort()
        else:
            waiting.callback(None)

    # a failure after `give_up` has nobody to tell
    dialling.addCallbacks(connected, lambda why: None if waiting.called else waiting.errback(why))
    try:
        await waiting
    except (CancelledError, SSHError):
        raise
    except Exception as error:
        if is_given_up:
            raise CancelledError() from None
        raise dial_error(settings, error) from error
