"""Which key of a token may sign: by its name without a register, by the register where there is one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellward.core.errors import Code, PolicyRefused, Refused, Unavailable
from cellward.core.keys import KeyStage, PublicKey
from cellward.ports.signer import KeyStore, Role, Signer
from cellward.sign.keys import key_name, role_labels

if TYPE_CHECKING:  # without a register `image sign` does not pay for its parser
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cellward.core.register import Entry, Register


def no_register(subject: str) -> Unavailable:
    return Unavailable(
        Code.REGISTER_MISSING,
        subject,
        expected="a key register in the data directory",
        found="none",
        advice="make the first with `cellward keys ceremony begin` (docs/runbooks/key-ceremony.md)",
    )


@dataclass(frozen=True)
class Keyring:
    """`register` is None where no ceremony was held yet: every key of a role's name may sign then.

    Every method raises what Register.check_use raises, and register.missing where a stage is asked for and
    there is nothing that knows it.
    """

    register: "Register | None"
    now: "Callable[[], datetime]"

    def check(self, key: PublicKey, purpose: Role, stage: KeyStage | None) -> None:
        if self.register is not None:
            self.register.check_use(key, purpose, stage or KeyStage.PRODUCTION, self.now())
        elif stage is not None:
            raise no_register(f"key {key.fingerprint[:16]}")

    def trusted(self, purpose: Role, given: "Sequence[PublicKey]" = ()) -> "list[PublicKey]":
        """Whose signatures are taken now for production: `given`, each judged by the register; or without
        any, all that it lets sign."""
        for key in given:
            self.check(key, purpose, None)
        if given or self.register is None:
            return list(given)
        return [e.key for e in self.register.signing(purpose, KeyStage.PRODUCTION, self.now())]

    def ever(self, purpose: Role) -> "list[PublicKey]":
        """Every key of the register for this purpose and production, in whatever state: to look at, or to
        take back."""
        found = () if self.register is None else self.register.of(purpose, KeyStage.PRODUCTION)
        return [entry.key for entry in found]

    def same_hand(self, one: str, other: str) -> bool:
        return one == other if self.register is None else self.register.same_hand(one, other)

    def checked(self, signer: Signer, purpose: Role, stage: KeyStage | None = None) -> Signer:
        """This signer, if its key may sign."""
        self.check(signer.public_key, purpose, stage)
        return signer

    def named(self, store: KeyStore, purpose: Role, name: str, stage: KeyStage | None = None) -> Signer:
        return self.checked(store.signer(key_name(purpose, name)), purpose, stage)

    def default(self, store: KeyStore, purpose: Role, stage: KeyStage | None = None) -> Signer:
        """The role's own key; with a register, the one key of the token that is active in it.

        A key that is to be retired stands back for its successor. Raises Refused (register.ambiguous) where
        two are as good.
        """
        if self.register is None:
            if stage is not None:
                raise no_register(f"a {stage} key for {purpose}")
            return store.signer(purpose.value)
        wanted = stage or KeyStage.PRODUCTION
        usable = self.register.signing(purpose, wanted, self.now())
        held = self._held(store, purpose, usable)
        active = {label: entry for label, entry in held.items() if entry.active} or held
        if not active:
            self._refuse_all(store, purpose, wanted)
        if len(active) > 1:
            raise Refused(
                Code.REGISTER_AMBIGUOUS,
                f"the {wanted} key for {purpose}",
                expected="one active key of the register in this token",
                found=", ".join(f"{label} ({e.fingerprint[:16]})" for label, e in sorted(active.items())),
                advice="name it with --key",
            )
        return self.checked(store.signer(next(iter(active))), purpose, wanted)

    def _held(self, store: KeyStore, purpose: Role, entries: "tuple[Entry, ...]") -> "dict[str, Entry]":
        by_key = {entry.key: entry for entry in entries}
        found: dict[str, Entry] = {}
        for label in role_labels(store, purpose):
            stored = store.find(label)
            if stored is not None and stored.public_key in by_key:
                found[label] = by_key[stored.public_key]
        return found

    def _refuse_all(self, store: KeyStore, purpose: Role, stage: KeyStage) -> None:
        """The reason of the key that comes nearest: the newest that the token has."""
        labels = role_labels(store, purpose)
        if labels:
            self.check(store.signer(labels[-1]).public_key, purpose, stage)
        raise PolicyRefused(
            Code.KEY_UNKNOWN,
            f"the {stage} key for {purpose}",
            expected="one in this token that the register lets sign",
            found=", ".join(labels) or "no key of this role",
            advice="see `cellward keys list`",
        )
