"""The pack controller's vault: core.packvault's file in the state directory, its key sealed in the TPM.

A write is: the new file in one atomic step, then the TPM's chain, then its counter. A cut between any two is
made good at the next opening. A file that was written and not chained can be replaced by the one before it,
and by nothing else once another was chained (docs/formats/controller-vault.md).
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core import exported, packvault
from cellward.core.errors import Code, PolicyRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.packvault import KEY_SIZE, NONCE_SIZE, Content, Decoded, Standing, Value
from cellward.core.tpm import approval
from cellward.core.tpm.approval import REFERENCE, Approval
from cellward.core.tpm.keys import external_key
from cellward.core.tpm.numbers import Comparison
from cellward.core.tpm.policy import Policy
from cellward.device.tamper import check_sound
from cellward.ports.secretmemory import SecretMemory
from cellward.ports.store import Store
from cellward.ports.tpm import (
    RELEASE_COUNTER,
    VAULT_CHAIN,
    VAULT_COUNTER,
    ApprovalStep,
    CounterStep,
    PcrStep,
    PolicyStep,
    SealedBlob,
    Tpm,
    counter_area,
)

FILE = "vault/values"
POLICIES = "vault/policies/"
MAX_STEPS = 256  # of the release counter at once
_WHAT = "vault"


@dataclass(frozen=True)
class Place:
    """What a vault stands on. One process has it at a time."""

    tpm: Tpm
    store: Store
    memory: SecretMemory

    def decoded(self) -> Decoded:
        """Raises Unavailable (vault.missing), FormatRefused."""
        data = self.store.read(FILE)
        if data is None:
            raise Unavailable(
                Code.VAULT_MISSING,
                _WHAT,
                expected="a vault in the state directory",
                found="none",
                advice="make one with `cellward vault init`",
            )
        return packvault.decode(data)

    def policies(self) -> dict[str, Approval]:
        """By their names in the store. Raises FormatRefused (metadata.*)."""
        names = [name for name in self.store.names() if name.startswith(POLICIES)]
        return {name: approval.decode(self.store.read(name) or b"", name) for name in names}


@dataclass(frozen=True)
class Successor:
    """Another policy key, and what it approves of the release that runs."""

    approver: PublicKey
    policy: bytes


def create(place: Place, approver: PublicKey, policy: bytes) -> None:
    """An empty vault that opens by what `approver` approves; `policy` is the first of it.

    Raises Refused (storage.exists) where there is one, TrustRefused (attest.policy, vault.policy),
    PolicyRefused (tamper.*).
    """
    check_sound(place.tpm, place.store, _WHAT)
    if place.store.read(FILE) is not None:
        raise Refused(
            Code.STORAGE_EXISTS,
            _WHAT,
            expected="a state directory without a vault",
            found="one",
            advice="its values would be lost; remove the folder `vault`, if they may be",
        )
    found = _approved(approver, policy)
    place.tpm.define_counter(RELEASE_COUNTER)  # the first of a new TPM: the fleet's begin alike
    counter, chain = place.tpm.define_counter(VAULT_COUNTER), place.tpm.define_chain(VAULT_CHAIN)
    device = hashlib.sha256(place.tpm.ek_public()).digest()
    with place.memory.hold(KEY_SIZE) as key:
        sealed = _seal_new(place, key, approver)
        _unseal(place, sealed, approver, found, key)  # before anything depends on it
        content = Content(device, approver, sealed, counter + 1, chain)
        place.store.write(_name(policy), policy)
        _write(place, content, key)


def accept(place: Place, policy: bytes) -> Approval:
    """Keep a policy for when its release is what was started. Raises TrustRefused (attest.policy)."""
    found = _approved(place.decoded().content.approver, policy)
    place.store.write(_name(policy), policy)
    return found


@contextmanager
def opened(place: Place) -> Iterator["Vault"]:
    """The vault, for as long as this lasts.

    Raises Unavailable (vault.missing, tpm.*), FormatRefused, TrustRefused: vault.policy where nothing that
    was approved fits what was started, vault.seal, vault.rollback, tpm.blob for another controller's vault.
    PolicyRefused (tamper.*) where somebody tampered with this one.
    """
    check_sound(place.tpm, place.store, _WHAT)
    decoded = place.decoded()
    sealed, approver = decoded.content.sealed, decoded.content.approver
    with place.memory.hold(KEY_SIZE) as key:
        found = _fitting(place, approver)
        _unseal(place, sealed, approver, found, key)
        content = decoded.check(key)
        _settle(place, content, key)
        yield Vault(place, content, key, found)


class Vault:
    """An open vault. Every change is in force, and acknowledged by the TPM, when its method returns."""

    def __init__(self, place: Place, content: Content, key: memoryview, policy: Approval) -> None:
        self._place = place
        self._key = key
        self._policy = policy
        self.content = content

    @contextmanager
    def get(self, name: str) -> Iterator[memoryview]:
        """The value, in memory that is wiped at the end. Raises PolicyRefused (vault.unknown)."""
        value = self.content.value(name)
        with self._place.memory.hold(len(value.ciphertext)) as view:
            value.open(self._key, self.content.device, view)
            yield view

    def put(self, name: str, value: packvault.Buffer, *, exportable: bool = False) -> None:
        """Raises FormatRefused (vault.format), PolicyRefused (vault.full)."""
        made = self._sealed(self._key, name, self.content.counter + 1, value, exportable=exportable)
        self._commit(self.content.with_value(made))

    def remove(self, name: str) -> None:
        """Raises PolicyRefused (vault.unknown)."""
        gone = self.content.value(name)
        self._commit(tuple(value for value in self.content.values if value is not gone))

    def rotate(self, successor: Successor | None = None) -> None:
        """Everything under a new key; sealed to the policies of the successor, where there is one.

        Raises TrustRefused (vault.policy, attest.policy) where its policy does not open the new vault.
        """
        place, owner, policy = self._place, self.content.approver, self._policy
        if successor is not None:
            owner, policy = successor.approver, _approved(successor.approver, successor.policy)
        with place.memory.hold(KEY_SIZE) as key:
            sealed = _seal_new(place, key, owner)
            _unseal(place, sealed, owner, policy, key)
            values = tuple(self._moved(value, key) for value in self.content.values)
            content = replace(self.content, approver=owner, sealed=sealed)
            content = content.successor(place.tpm.chain(VAULT_CHAIN), values)
            if successor is not None:  # first: without it the new file would open by nothing
                place.store.write(_name(successor.policy), successor.policy)
            _write(place, content, key)
            self._key[:] = key
        self.content, self._policy = content, policy

    def export(self, name: str, recipient: PublicKey) -> bytes:
        """For the holder of this key alone. Raises PolicyRefused (vault.unknown, vault.export),
        FormatRefused (key.format) for another kind of key than P-256."""
        value = self.content.value(name)
        if not value.exportable:
            raise PolicyRefused(
                Code.VAULT_EXPORT,
                f"{_WHAT} value {name}",
                expected="a value that was put in as exportable",
                found="one that stays",
            )
        recipient.require([Algorithm.P256], "recipient").unpublished("recipient")
        with self.get(name) as plain, self._place.memory.hold(16) as key:
            self._place.memory.randomise(key)
            ephemeral = ec.generate_private_key(ec.SECP256R1())
            return exported.export(
                self.content.device, name, value.version, plain, recipient.cryptography, ephemeral, key
            ).encode()

    def commit_release(self) -> int:
        """Raise the release counter to what the policy in use allows: older releases' policies open nothing
        from here on, and are forgotten. For a release that was found healthy. The counter's value.

        Raises PolicyRefused (vault.policy) for a policy that would take too many steps.
        """
        tpm, goal = self._place.tpm, self._policy.terms.counter
        steps = goal - tpm.counter(RELEASE_COUNTER)
        if steps > MAX_STEPS:
            raise PolicyRefused(
                Code.VAULT_POLICY,
                _WHAT,
                expected=f"a policy that is at most {MAX_STEPS} above the release counter",
                found=f"{steps}",
            )
        for _ in range(steps):
            tpm.increment(RELEASE_COUNTER)
        for name, policy in self._place.policies().items():
            if policy.terms.counter < goal:
                self._place.store.delete(name)
        return goal

    def _moved(self, value: Value, key: memoryview) -> Value:
        with self.get(value.name) as plain:
            return self._sealed(key, value.name, value.version, plain, exportable=value.exportable)

    def _sealed(
        self, key: memoryview, name: str, version: int, value: packvault.Buffer, *, exportable: bool
    ) -> Value:
        nonce = secrets.token_bytes(NONCE_SIZE)
        return packvault.seal_value(
            key, self.content.device, name, version, value, nonce, exportable=exportable
        )

    def _commit(self, values: tuple[Value, ...]) -> None:
        content = self.content.successor(self._place.tpm.chain(VAULT_CHAIN), values)
        _write(self._place, content, self._key)
        self.content = content


def _write(place: Place, content: Content, key: memoryview) -> None:
    place.store.write(FILE, content.encode(key, secrets.token_bytes(NONCE_SIZE)))
    _settle(place, content, key)


def _settle(place: Place, content: Content, key: memoryview) -> None:
    """Whatever is missing of its write. Raises TrustRefused (vault.rollback)."""
    tpm = place.tpm
    found = packvault.standing(content, key, tpm.chain(VAULT_CHAIN), tpm.counter(VAULT_COUNTER))
    if found is Standing.WRITTEN:
        tpm.extend_chain(VAULT_CHAIN, content.mark(key))
    if found is not Standing.IN_FORCE:
        tpm.increment(VAULT_COUNTER)


# --- the key and its policies ---


def _seal_new(place: Place, key: memoryview, approver: PublicKey) -> bytes:
    place.memory.randomise(key)
    policy = Policy.authorize(external_key(approver).name, REFERENCE)
    return place.tpm.seal(key, policy.digest).data


def _unseal(place: Place, sealed: bytes, approver: PublicKey, found: Approval, key: memoryview) -> None:
    """Into `key`. Raises TrustRefused (vault.policy, tpm.blob), Unavailable (tpm.*)."""
    counter = counter_area(RELEASE_COUNTER)
    steps: list[PolicyStep] = [
        PcrStep(found.terms.values.selection),
        CounterStep(RELEASE_COUNTER, Comparison.UNSIGNED_LE, found.terms.counter),
        ApprovalStep(approver, found.verify(approver, counter), REFERENCE),
    ]
    try:
        opened = place.tpm.unseal(SealedBlob(sealed), steps)
    except TrustRefused as error:
        if error.code is Code.TPM_POLICY:
            raise _no_policy(place, f"a policy up to release {found.terms.counter}") from error
        raise
    if len(opened) != KEY_SIZE:
        raise TrustRefused(
            Code.VAULT_SEAL, _WHAT, expected=f"a sealed key of {KEY_SIZE} bytes", found=f"{len(opened)}"
        )
    key[:] = opened
    opened[:] = bytes(KEY_SIZE)


def _fitting(place: Place, approver: PublicKey) -> Approval:
    """The policy of what was started; of several the highest. Raises TrustRefused (vault.policy)."""
    kept = [each for each in place.policies().values() if each.key_id == approver.fingerprint]
    fitting = [each for each in kept if each.terms.values == place.tpm.pcr_read(each.terms.values.selection)]
    if not fitting:
        raise _no_policy(place, f"{len(kept) or 'none'} for other measurements")
    return max(fitting, key=lambda each: each.terms.counter)


def _approved(approver: PublicKey, policy: bytes) -> Approval:
    found = approval.decode(policy)
    found.verify(approver, counter_area(RELEASE_COUNTER))
    return found


def _no_policy(place: Place, found: str) -> TrustRefused:
    return TrustRefused(
        Code.VAULT_POLICY,
        _WHAT,
        expected="an approved policy for what was measured at the start, up to release "
        f"{place.tpm.counter(RELEASE_COUNTER)} or later",
        found=found,
        advice="start an approved release, or hand over its policy with `cellward vault accept`",
    )


def _name(policy: bytes) -> str:
    return f"{POLICIES}{hashlib.sha256(policy).hexdigest()[:32]}.json"
