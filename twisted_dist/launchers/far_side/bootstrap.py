"""Ships this package to a host that has not got it: ``dcluster --bootstrap``.

One command does it, in the Python that is to run the daemons: it says that it wants the archive
(or has it), takes it on standard input, and says what to start the daemons with.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, frozen

from twisted_dist.errors import SSHError
from twisted_dist.launchers.far_side import install_script
from twisted_dist.launchers.far_side.bundle import Bundle
from twisted_dist.launchers.far_side.command import Surroundings, remote_command
from twisted_dist.launchers.far_side.probe import shown, silence
from twisted_dist.launchers.ssh.interface import Connection, Ending

#: begins the lines that are ours, whatever else is printed there
MARKER: Final = "twisted_dist-bootstrap:"
#: bytes that a host may say: more than it ever does
MAX_SAID: Final = 256 * 1024
#: what must run there before it is taken for good: all of the daemons, and what they need
CHECK: Final = (
    "import twisted_dist.cli.scheduler, twisted_dist.cli.worker, twisted_dist.services.nanny, "
    "twisted_dist.services.scheduler, twisted_dist.services.worker"
)


@frozen
class Shipped:
    """Where the package is on a host.

    Attributes:
        python: the path of the Python that it is for.
        path: what ``PYTHONPATH`` is to begin with.
        is_new: whether it was sent just now, and not there already.
    """

    python: str
    path: str
    is_new: bool

    def surroundings(self, given: Surroundings) -> Surroundings:
        """Where daemons run that it is there for: *given*, with this."""
        before = given.env.get("PYTHONPATH")
        path = f"{self.path}:{before}" if before else self.path
        return evolve(given, python=self.python, env={**given.env, "PYTHONPATH": path})


def arguments(bundle: Bundle) -> list[str]:
    """Of the Python there, for `remote_command`; what it takes then is a `Shipment`'s."""
    request = {
        "name": bundle.name,
        "size": len(bundle.data),
        "sha256": bundle.sha256,
        "requirements": bundle.requirements,
        "check": CHECK,
    }
    call = f"\nmain({MARKER!r}, {json.dumps(request)!r})\n"
    return ["-c", inspect.getsource(install_script) + call]


class Shipment:
    """The talk with a host about one bundle, without its connection.

    Args:
        bundle: that is to be there.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._said = bytearray()
        self._read = 0
        self._sent = False
        self._last: Mapping[str, Any] = {}

    def feed(self, output: bytes) -> bytes:
        """Take what the host says; what is to be written to it now, or nothing.

        After something, its standard input is to end.
        """
        if len(self._said) + len(output) > MAX_SAID:
            return b""
        self._said += output
        *lines, rest = bytes(self._said[self._read :]).split(b"\n")
        self._read = len(self._said) - len(rest)
        for line in lines:
            if line.startswith(MARKER.encode()):
                self._take(line[len(MARKER) :])
        if self._last.get("state") == "send" and not self._sent:
            self._sent = True
            return self._bundle.data
        return b""

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(said, dict):
            self._last = said

    def finish(self, errors: bytes, ending: Ending) -> Shipped:
        """Where it is, once the command has ended.

        Raises:
            SSHError: it is not; of kind ``command`` (or ``lost``).
        """
        state = self._last.get("state")
        if state == "done":
            python, path = str(self._last.get("python")), str(self._last.get("path"))
            return Shipped(python, path, bool(self._last.get("new")))
        if state == "failed":
            why = shown(str(self._last.get("why")).encode())
            raise SSHError(f"--bootstrap: {why}", "command")
        problem = silence(bytes(self._said), errors, ending)
        raise SSHError(f"--bootstrap: {problem}", problem.kind, problem.is_passing)


async def ship(connection: Connection, surroundings: Surroundings, bundle: Bundle) -> Shipped:
    """Put a bundle on a host, unless it is there.

    Args:
        connection: to the host.
        surroundings: how the Python there is found.
        bundle: what is to be there.

    Raises:
        SSHError: the host has not got it; says why. Then nothing of it is left there.
    """
    shipment = Shipment(bundle)
    errors = bytearray()
    early = bytearray()

    def output(data: bytes) -> None:
        answer = shipment.feed(data)
        if answer:
            send(answer)

    def send(data: bytes) -> None:
        if command is None:  # it speaks before we know that it has started
            early.extend(data)
        else:
            command.write(data)
            command.end_input()

    def complaint(data: bytes) -> None:
        del errors[:-MAX_SAID]
        errors.extend(data)

    command = None
    command = await connection.start(
        remote_command(arguments(bundle), surroundings), output, complaint
    )
    if early:
        send(bytes(early))
    ending = await command.ended()
    return shipment.finish(bytes(errors), ending)
