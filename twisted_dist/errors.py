"""Every error that a user can meet.

The tree::

    TwistedDistError
    ├── ConnectError            the scheduler or worker could not be reached
    │   ├── SSHError            a host could not be entered over SSH
    │   └── ClusterError        too little of a cluster over SSH could be started
    ├── ConnectionClosedError   it was reached and then went away
    ├── ProtocolError           bytes that are not our protocol, or over a bound
    ├── RefusedError            the other side understood and said no
    ├── AccessError             no credential for it here, or it is not who it should be
    ├── LeaseLostError          a lock was held, and is not any more
    ├── UsageProblem            the call cannot mean anything; nothing was sent
    ├── TaskError               a task ended without a value and without an exception of its own
    │   ├── TaskKilledError     its process died while it ran
    │   ├── WorkerLostError     its worker was lost too often
    │   ├── NoWorkerError       no worker may run it, or has what it asks for
    │   ├── DependencyLostError what it needs is gone and cannot be computed again
    │   └── DataLostError       scattered data whose last holder died
    └── RemoteError             an exception that could not be pickled, as text

``TaskStopped`` is raised inside a task that is to end; it is no ``Exception``.
``InsecureWarning`` is a warning: a client was told to do without TLS and credentials.
``CancelledError`` is ``concurrent.futures.CancelledError``, so that code written for the
standard library keeps working; ``TimeoutError`` is the built-in one for the same reason.
"""

from __future__ import annotations

from concurrent.futures import CancelledError

__all__ = [
    "AccessError",
    "CancelledError",
    "ClusterError",
    "ConnectError",
    "ConnectionClosedError",
    "DataLostError",
    "DependencyLostError",
    "InsecureWarning",
    "LeaseLostError",
    "NoWorkerError",
    "ProtocolError",
    "RefusedError",
    "RemoteError",
    "RemoteTraceback",
    "SSHError",
    "TaskError",
    "TaskKilledError",
    "TaskStopped",
    "TwistedDistError",
    "UsageProblem",
    "WorkerLostError",
]


class TaskStopped(BaseException):
    """Raised in a task that was cancelled, or took longer than its ``timeout=``.

    Not an `Exception`: it is not to be handled, but to be cleaned up after.
    """


class TwistedDistError(Exception):
    """Base of everything this package raises on its own account."""


class ConnectError(TwistedDistError):
    """Nothing answered at the address within the time given."""


class SSHError(ConnectError):
    """A host could not be entered over SSH, or not be worked with there.

    Attributes:
        kind: one word for what it is, for programs and tables: ``name`` (does not resolve),
            ``unreachable`` (nothing answers in time, or no route), ``refused`` (nobody listens),
            ``protocol`` (no SSH, or nothing in common with it), ``host-key`` (unknown),
            ``host-key-changed``, ``auth``, ``command`` (entered, but it runs nothing),
            ``lost``, ``settings`` (the configuration cannot be meant).
        is_passing: whether it may be otherwise in a moment, so that trying again is sensible.
    """

    def __init__(self, message: str, kind: str, is_passing: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.is_passing = is_passing

    def __reduce__(self) -> tuple[type[SSHError], tuple[str, str, bool]]:
        return type(self), (str(self), self.kind, self.is_passing)


class ClusterError(ConnectError):
    """Too little of a cluster could be started; says which hosts failed, and why."""


class ConnectionClosedError(TwistedDistError):
    """The connection ended while something was still owed on it."""


class ProtocolError(TwistedDistError):
    """Bytes that break docs/protocol.md; ends the connection they came on."""


class RefusedError(TwistedDistError):
    """The peer understood the request and refused it; the message says why."""


class AccessError(TwistedDistError):
    """There is no usable credential here, or the other side is not the one it is for.

    Nothing of the application was sent.
    """


class LeaseLostError(TwistedDistError):
    """A lock or semaphore was held and is not any more: somebody else may have it."""


class UsageProblem(TwistedDistError, ValueError):  # noqa: N818 - the contract's name
    """An argument that cannot be meant; nothing was sent."""


class TaskError(TwistedDistError):
    """A task ended without a value and without an exception of its own."""


class TaskKilledError(TaskError):
    """The process running the task died; the message has its exit status or signal."""


class WorkerLostError(TaskError):
    """Worker after worker was lost while holding the task, beyond its budget."""


class NoRoomError(TaskError):
    """A result fits neither into a worker's memory nor on its disk."""


class NoWorkerError(TaskError):
    """No registered worker is one of ``workers=`` or has ``resources=``; says what there is."""


class DependencyLostError(TaskError):
    """Something the task needs is gone for good."""


class DataLostError(TaskError):
    """Scattered data whose last holder left; there is no function to compute it again."""


class RemoteError(TwistedDistError):
    """Stands for a remote exception that could not be pickled or loaded here."""


class InsecureWarning(UserWarning):
    """A client was told to do without TLS and credentials: whoever is in between is it."""


class RemoteTraceback(Exception):  # noqa: N818 - as concurrent.futures and pool name theirs
    """Carries the worker's traceback as the ``__cause__`` of the exception raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text
