"""Whose signatures a verifier takes: keys given for a role each, or those of the maker's key register."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cellward.core import register as registers
from cellward.core.errors import CellwardError, Code, PolicyRefused, TrustRefused
from cellward.core.keys import KeyStage, PublicKey, Role
from cellward.core.register import Entry, Register

Anchor = str | Collection[PublicKey] | None  # SHA-256 of a register's first version, or all of its root keys


class Known(Protocol):
    def keys(self, role: Role, what: str) -> list[PublicKey]:
        """Those that a signature may be by; `check` has the last word.

        Raises PolicyRefused (image.no_key_given) where there is none.
        """

    def check(self, key: PublicKey, role: Role, logged: datetime | None, what: str) -> Iterator[str]:
        """What is known of the key, a line each, if its signature counts. `logged`: when it was made, by the
        signing log."""

    def same_hand(self, one: str, other: str) -> bool:
        """Whether two fingerprints are of one person, as far as is known."""


@dataclass(frozen=True)
class GivenKeys:
    """Each is trusted for its role, whoever has it."""

    by_role: Mapping[str, Sequence[PublicKey]]

    def keys(self, role: Role, what: str) -> list[PublicKey]:
        found = list(self.by_role.get(role, ()))
        if not found:
            raise PolicyRefused(
                Code.IMAGE_NO_KEY_GIVEN,
                what,
                expected=f"--key {role}=PEM, or --register FILE",
                found="no key of that role",
                advice="a file that names its own key proves nothing",
            )
        return found

    def check(self, key: PublicKey, role: Role, logged: datetime | None, what: str) -> Iterator[str]:
        return iter(())

    def same_hand(self, one: str, other: str) -> bool:
        return one == other


@dataclass(frozen=True)
class RegisterKeys:
    """`chain`: every version, verified. Keys are judged for this stage, and without a log's time by now."""

    register: Register
    chain: Sequence[bytes] = field(repr=False)
    stage: KeyStage
    now: datetime

    @classmethod
    def verified(
        cls, chain: Sequence[bytes], anchor: Anchor, stage: KeyStage, now: datetime, what: str
    ) -> "RegisterKeys":
        """Raises as `verify_register`."""
        return cls(verify_register(chain, anchor, what), chain, stage, now)

    def keys(self, role: Role, what: str) -> list[PublicKey]:
        """Of every role, so that `check` can say what is wrong with another's; a log's key is tried alone."""
        entries = [e for e in self.register.entries if role is not Role.LOG or e.purpose is role]
        found = [entry.key for entry in entries if not self._out_of_use(entry)]
        if not found:
            raise PolicyRefused(
                Code.IMAGE_NO_KEY_GIVEN,
                what,
                expected=f"a {role} key in the register",
                found=f"none in version {self.register.version}",
            )
        return found

    def _out_of_use(self, entry: Entry) -> bool:
        """A known ML-DSA key is asked of every release: not one that may sign no more."""
        usable = self.register.signing(entry.purpose, entry.stage, self.now)
        return entry.key.algorithm.post_quantum and entry not in usable

    def check(self, key: PublicKey, role: Role, logged: datetime | None, what: str) -> Iterator[str]:
        """Raises as Register.check_signature."""
        try:
            entry = self.register.check_signature(key, role, self.stage, logged, self.now)
        except CellwardError as error:
            raise error.about(f"{what}, {error.subject}") from error
        yield f"register {self.register.version}: {said(entry)}"

    def same_hand(self, one: str, other: str) -> bool:
        return self.register.same_hand(one, other)


def verify_register(chain: Sequence[bytes], anchor: Anchor, what: str) -> Register:
    """The newest version. Raises as register.verify_chain; register.roots without an anchor too."""
    if not anchor:
        raise TrustRefused(
            Code.REGISTER_ROOTS,
            what,
            expected="--register-hash SHA256 of its first line, or --key root=PEM of each root key in that",
            found="neither",
            advice="a register that names its own root proves nothing",
        )
    return registers.verify_chain(chain, anchor, what)


def said(entry: Entry) -> str:
    """`firmware-2 (21e2ebc0da590301), a production key for firmware, active, until 2031-11-24`."""
    status = entry.status
    when = "" if status.at is None else f" {status.at:%Y-%m-%d %H:%M} UTC"
    state = f"{status.state}{when}" + (f" ({status.reason})" if status.reason else "")
    return f"{entry}, a {entry.stage} key for {entry.purpose}, {state}, until {entry.not_after:%Y-%m-%d}"
