"""`Network`: what a scheduler holds of its network: its own key, and who was given one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from attrs import define, evolve, frozen

from twisted_dist.access.access import Access, decode, decode_certificate, encode
from twisted_dist.access.credential import SEED_BYTES, Certificate, Credential
from twisted_dist.access.roles import ROLES, WORKER
from twisted_dist.errors import AccessError, UsageProblem

FORMAT: Final = "twisted_dist network 1"
#: role of the scheduler's own key
SCHEDULER: Final = "scheduler"


@frozen
class Grant:
    """One credential that was given out; here is its certificate alone, and not its key.

    Attributes:
        name: what ``daccess`` lists and revokes it by.
        expires: seconds since 1970 until when it counts; None for ever.
        revoked: whether it was taken back.
    """

    name: str
    role: str
    certificate: Certificate
    expires: float | None = None
    revoked: bool = False

    def why_not(self, wall_now: float) -> str | None:
        """Why the credential does not count at *wall_now*; None if it does."""
        if self.revoked:
            return f"the credential {self.name!r} was revoked"
        if self.expires is not None and self.expires <= wall_now:
            return f"the credential {self.name!r} has expired"
        return None


@define
class Network:
    """A scheduler's own key and its grants.

    Attributes:
        key: the scheduler's.
        owned: the credentials of the first life, one for each role, for the owner's own use.
        grants: all that were ever given out, by certificate.
    """

    key: Credential
    owned: dict[str, Credential]
    grants: dict[Certificate, Grant]

    @classmethod
    def make(cls) -> Network:
        """New keys throughout."""
        owned = {role: Credential.make(role) for role in ROLES}
        grants = [Grant(f"owner-{role}", role, c.certificate) for role, c in owned.items()]
        return cls(Credential.make(SCHEDULER), owned, {g.certificate: g for g in grants})

    def access(
        self, addresses: Iterable[str], machine: str, credentials: Iterable[Credential]
    ) -> Access:
        """What a member with *credentials* is to be given."""
        workers = frozenset(c for c, grant in self.grants.items() if grant.role == WORKER)
        held = {each.role: each for each in credentials}
        return Access(tuple(addresses), machine, self.key.certificate, workers, held)

    def grant(self, role: str, name: str, expires: float | None) -> Credential:
        """Give out one more credential; its secret is in nobody's hands but the caller's.

        Raises:
            UsageProblem: no such role, or the name is in use.
        """
        if role not in ROLES:
            raise UsageProblem(f"{role!r} is no role; there are {', '.join(ROLES)}")
        if any(each.name == name for each in self.grants.values()):
            raise UsageProblem(f"there is a credential {name!r} already; give another --name")
        credential = Credential.make(role)
        grant = Grant(name, role, credential.certificate, expires)
        self.grants[credential.certificate] = grant
        return credential

    def revoke(self, name: str) -> Grant:
        """Take a credential back. Raises UsageProblem where there is none of that name."""
        for certificate, each in self.grants.items():
            if each.name == name:
                self.grants[certificate] = evolve(each, revoked=True)
                return self.grants[certificate]
        names = ", ".join(sorted(each.name for each in self.grants.values() if not each.revoked))
        raise UsageProblem(f"there is no credential {name!r}; there are {names}")

    def keys(self, wall_now: float) -> dict[Certificate, str]:
        """``{certificate: role}`` of all that counts at *wall_now*: what members may know."""
        return {c: g.role for c, g in self.grants.items() if g.why_not(wall_now) is None}

    # -- as text

    def dump(self) -> str:
        """The content of a network file: JSON that a person can look at."""
        return json.dumps(self._content(), indent=1) + "\n"

    def line(self) -> str:
        """The same in one line, without its end: for a scheduler's standard input."""
        return json.dumps(self._content(), separators=(",", ":"))

    def _content(self) -> dict[str, Any]:
        grants: list[dict[str, Any]] = [
            {
                "name": each.name,
                "role": each.role,
                "certificate": encode(each.certificate),
                "expires": each.expires,
                "revoked": each.revoked,
            }
            for each in self.grants.values()
        ]
        return {
            "format": FORMAT,
            "key": encode(self.key.reveal()),
            "owned": {role: encode(c.reveal()) for role, c in self.owned.items()},
            "grants": grants,
        }

    @classmethod
    def load(cls, text: str) -> Network:
        """From the content of a file, or a line. Raises AccessError where it is none of ours."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError
            owned = {
                role: Credential(role, decode(secret, SEED_BYTES))
                for role, secret in content["owned"].items()
            }
            grants = [
                Grant(
                    str(each["name"]),
                    str(each["role"]),
                    decode_certificate(each["certificate"]),
                    None if each["expires"] is None else float(each["expires"]),
                    bool(each["revoked"]),
                )
                for each in content["grants"]
            ]
            key = Credential(SCHEDULER, decode(content["key"], SEED_BYTES))
            return cls(key, owned, {each.certificate: each for each in grants})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise AccessError("this is no network file of this version of twisted_dist") from None
