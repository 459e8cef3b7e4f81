"""``daccess``: shows, makes and revokes credentials of the networks in the user's home."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import Final, NoReturn

from twisted_dist.access.access import Access
from twisted_dist.access.credential import fingerprint
from twisted_dist.access.find import find_access
from twisted_dist.access.home import Home, write_secret
from twisted_dist.access.network import Grant
from twisted_dist.access.roles import ROLES
from twisted_dist.address import parse_address
from twisted_dist.cli.options import EXIT_USAGE
from twisted_dist.errors import AccessError, UsageProblem
from twisted_dist.version import VERSION

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_ROLES_HELP: Final = """\
roles:
  admin      everything but being a worker: submit, look, terminate
  submit     run work and fetch results; may not terminate
  worker     register as a worker; may not submit
  read-only  look: identity, views

examples:
  daccess                                            networks of this home
  daccess show 192.168.0.1:8786                      who was given a credential
  daccess make worker 192.168.0.1:8786 --output worker.access
  daccess make submit 192.168.0.1:8786 --name alice --expires 30d --output alice.access
  daccess make worker 192.168.0.1:8786 --address login.example.org:8786 --output w.access
  export TWISTED_DIST_ACCESS=$(daccess join submit 192.168.0.1:8786)
  daccess revoke alice 192.168.0.1:8786
"""


def seconds(text: str) -> float:
    """A duration such as ``90s``, ``12h`` or ``30d``, for argparse."""
    found = re.fullmatch(r"(\d+)([smhdw])", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; for example 12h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def address(text: str) -> str:
    """``host:port``, for argparse."""
    try:
        parse_address(text)
    except UsageProblem as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the daemons do."""

    def error(self, message: str) -> NoReturn:
        """One line on standard error, and the end."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="daccess",
        description="Who may enter the networks whose schedulers this user started.",
        epilog=_ROLES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"daccess (twisted-dist) {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="show|make|join|revoke")
    where = _Parser(add_help=False)
    where.add_argument(
        "network",
        nargs="?",
        type=address,
        metavar="HOST:PORT",
        help="the scheduler's address; may be left out where there is only one",
    )
    new = _Parser(add_help=False)
    new.add_argument("role", choices=ROLES)
    new.add_argument("--name", help="to revoke it by (default: the role and a number)")
    new.add_argument(
        "--address",
        action="append",
        type=address,
        metavar="HOST:PORT",
        help="how the scheduler is dialled from there, if differently; may be repeated",
    )
    new.add_argument("--expires", type=seconds, metavar="TIME", help="12h, 30d, …; default: never")
    commands.add_parser("show", parents=[where], help="list credentials, not their secrets")
    make = commands.add_parser("make", parents=[new, where], help="make one, as an access file")
    make.add_argument(
        "--output", metavar="FILE", help="written with mode 0600 (default: standard output)"
    )
    commands.add_parser("join", parents=[new, where], help="make one, as a join string")
    revoke = commands.add_parser("revoke", parents=[], help="take one back")
    revoke.add_argument("name")
    revoke.add_argument("network", nargs="?", type=address, metavar="HOST:PORT")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``daccess``; its exit status."""
    options = _parser().parse_args(arguments)
    home = Home()
    try:
        if options.command in (None, "show"):
            _show(home, getattr(options, "network", None))
        else:
            network = _chosen(home, options.network)
            if options.command == "revoke":
                with home.changing_network(network) as changing:
                    grant = changing.revoke(options.name)
                print(f"revoked {grant.name} ({grant.role}) of {network}")
            else:
                _give(_make(home, network, options), options)
    except (AccessError, UsageProblem) as problem:
        print(f"daccess: {problem}", file=sys.stderr)
        return EXIT_USAGE if isinstance(problem, UsageProblem) else 1
    return 0


def _chosen(home: Home, given: str | None) -> str:
    """The address of the network that is meant, as its files have it."""
    if given is not None:
        # the user may have written one of the scheduler's other names
        return given if home.network_path(given).exists() else _own_name(home, given)
    known = home.addresses()
    if len(known) == 1:
        return known[0]
    if not known:
        raise AccessError(f"no scheduler of this user has left its network in {home.directory}")
    raise UsageProblem(f"which network? There are {', '.join(known)}")


def _own_name(home: Home, given: str) -> str:
    return find_access(given, home=home).addresses[0]


def _make(home: Home, network: str, options: argparse.Namespace) -> Access:
    expires = None if options.expires is None else time() + options.expires
    owner = find_access(network, home=home)
    with home.changing_network(network) as changing:
        names = {each.name for each in changing.grants.values()}
        number = 1
        while (name := options.name or f"{options.role}-{number}") in names and not options.name:
            number += 1
        credential = changing.grant(options.role, name, expires)
        addresses = options.address or owner.addresses
        access = changing.access(addresses, owner.machine, [credential])
    print(f"made {name} ({options.role}) of {network}; {_until(expires)}", file=sys.stderr)
    return access


def _give(access: Access, options: argparse.Namespace) -> None:
    if options.command == "join":
        print(access.join_string())
    elif options.output:
        write_secret(Path(options.output), access.dump())
    else:
        if stat.S_ISREG(os.fstat(1).st_mode):  # "> FILE": not for others to read
            os.fchmod(1, 0o600)
        sys.stdout.write(access.dump())


def _until(expires: float | None) -> str:
    if expires is None:
        return "does not expire"
    when = datetime.fromtimestamp(expires, timezone.utc)
    return f"expires {when:%Y-%m-%d %H:%M} UTC"


def _state(grant: Grant) -> str:
    return (grant.why_not(time()) and ("revoked" if grant.revoked else "expired")) or "counts"


def _show(home: Home, given: str | None) -> None:
    known = home.addresses() if given is None else [_chosen(home, given)]
    if not known:
        print(f"no scheduler of this user has left its network in {home.directory}")
    for network in known:
        print(network)
        grants = home.load_network(network).grants.values()
        width = max(len(each.name) for each in grants)
        for each in grants:
            row = f"  {each.name:{width}}  {each.role:9}  {_state(each):8}"
            print(f"{row}  key {fingerprint(each.certificate)}  {_until(each.expires)}")
