"""The pack controller's TPM 2.0: keys that cannot be copied, measurements, counters, sealed data.

Bytes are as the TCG's TPM 2.0 Library has them (docs/formats/attestation.md), hashes are SHA-256. Every
method raises Unavailable (tpm.absent, tpm.busy, tpm.lockout, tpm.failed) when the TPM does not answer or
cannot, FormatRefused (tpm.input) for arguments of a size that is none, and is safe to call from any thread.
Nothing here has an authorisation value of its own or counts as a failed try when the power goes:
dictionary-attack protection must not lock a battery's own keys away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeVar

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import PublicKey
from cellward.core.tpm.credential import Credential
from cellward.core.tpm.numbers import DIGEST_SIZE, Comparison, NvAttributes, NvType
from cellward.core.tpm.pcr import COUNT, PcrValues
from cellward.core.tpm.policy import COUNTER_SIZE, ApprovedPolicy
from cellward.core.tpm.public import NvPublic

MAX_SEALED = 128
MAX_NONCE = 32  # of a quote, and of an approval's reference
MAX_AUTHORISATION = 32
MAX_FIXED = 512

Buffer = bytes | bytearray | memoryview
_Some = TypeVar("_Some", bytes, Buffer)
_Nv = NvAttributes
_COUNTER = _Nv.AUTHREAD | _Nv.AUTHWRITE | _Nv.OWNERREAD | _Nv.NO_DA
_FIXED = _Nv.PLATFORMCREATE | _Nv.POLICY_DELETE | _Nv.WRITEDEFINE | _Nv.PPWRITE | _Nv.AUTHREAD | _Nv.NO_DA
_NO_POLICY_HAS = b"\xff" * 32

# The fleet's indices (docs/formats/controller-vault.md): in every pack the same, for policies name them.
RELEASE_COUNTER = 0x01800301
VAULT_COUNTER = 0x01800302
VAULT_CHAIN = 0x01800303
TRIED_COUNTER = 0x01800304
SETTLED_COUNTER = 0x01800305
TAMPER_CHAIN = 0x01800306
ZEROISE_MARK = 0x01800307
MAKER_CHAIN = 0x01800308


def counter_area(index: int) -> NvPublic:
    """A counter's public area once it counts. Its Name stands in policies: the same in the whole fleet."""
    return NvPublic(index, NvType.COUNTER, _COUNTER | _Nv.WRITTEN, COUNTER_SIZE)


def chain_area(index: int) -> NvPublic:
    """A chain's public area once it was extended."""
    return NvPublic(index, NvType.EXTEND, _COUNTER | _Nv.WRITTEN, DIGEST_SIZE)


def fixed_area(index: int, size: int) -> NvPublic:
    """Of data that was fixed: written, locked, and to be deleted only by a policy that nothing satisfies."""
    locked = _FIXED | _Nv.WRITTEN | _Nv.WRITELOCKED
    return NvPublic(index, NvType.ORDINARY, locked, size, _NO_POLICY_HAS)


def of_size(what: str, data: _Some, least: int, most: int) -> _Some:
    """Raises FormatRefused (tpm.input): a TPM would fill up, or refuse in words of its own."""
    if not least <= len(data) <= most:
        raise _input(what, f"{least} to {most} bytes" if least != most else f"{most} bytes", f"{len(data)}")
    return data


def of_digest(what: str, data: bytes) -> bytes:
    return of_size(what, data, DIGEST_SIZE, DIGEST_SIZE)


def pcrs(selection: Sequence[int]) -> tuple[int, ...]:
    """Sorted, each once. Raises FormatRefused (tpm.input) for none, or no such PCR."""
    found = tuple(sorted(set(selection)))
    if not found or found[0] < 0 or found[-1] >= COUNT:
        raise _input("PCR selection", f"some of 0 to {COUNT - 1}", f"{list(found)}")
    return found


def _input(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.TPM_INPUT, what, expected=expected, found=found)


class KeyName(Enum):
    """The keys of a pack controller, ECDSA P-256: made in the TPM, never outside of it, always loaded."""

    IDENTITY = "identity"  # signs what the pack says; in the owner hierarchy
    ATTESTATION = "attestation"  # restricted: signs what the TPM itself says; in the endorsement hierarchy


@dataclass(frozen=True)
class TpmFacts:
    """What the TPM says of itself."""

    manufacturer: str
    model: str
    firmware: int
    failed_tries: int  # of dictionary-attack protection
    locked_out: bool


@dataclass(frozen=True)
class Clock:
    """Milliseconds with power, and how often the TPM was reset, and restarted since then."""

    milliseconds: int
    resets: int
    restarts: int
    safe: bool  # False: the clock may have been seen higher before
    since_start: int  # milliseconds; of all this the one number that no command sets


@dataclass(frozen=True)
class TpmQuote:
    """TPMS_ATTEST and the attestation key's TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True)
class PcrStep:
    """TPM2_PolicyPCR: these PCRs as they are now. All steps raise FormatRefused (tpm.input)."""

    selection: tuple[int, ...]

    def __post_init__(self) -> None:
        pcrs(self.selection)


@dataclass(frozen=True)
class CounterStep:
    """TPM2_PolicyNV: the counter compares so with the value."""

    index: int
    comparison: Comparison
    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << 8 * COUNTER_SIZE:
            raise _input("counter", f"a number of {COUNTER_SIZE} bytes", f"{self.value}")


@dataclass(frozen=True)
class ApprovalStep:
    """TPM2_PolicyAuthorize: the steps so far make a policy that this key approved."""

    approver: PublicKey
    approved: ApprovedPolicy
    reference: bytes = b""

    def __post_init__(self) -> None:
        of_size("approval's reference", self.reference, 0, MAX_NONCE)


PolicyStep = PcrStep | CounterStep | ApprovalStep


@dataclass(frozen=True)
class SealedBlob:
    """TPM2B_PRIVATE ‖ TPM2B_PUBLIC: of use to the TPM alone that made it, until its owner is cleared."""

    data: bytes = field(repr=False)


class TpmKeys(Protocol):
    """The endorsement key, which the manufacturer certified, and the pack controller's own keys."""

    def ek_certificate(self) -> bytes:
        """X.509, DER. Raises Unavailable (tpm.missing)."""
        ...

    def ek_public(self) -> bytes:
        """TPMT_PUBLIC of the certified key. Raises as `ek_certificate`, and Refused (tpm.failed) where the
        TPM's key is another."""
        ...

    def create_key(self, name: KeyName) -> bytes:
        """Make the key; its TPMT_PUBLIC. Raises Refused (tpm.exists), nothing is changed then."""
        ...

    def key(self, name: KeyName) -> bytes | None:
        """The key's TPMT_PUBLIC, if it was made."""
        ...

    def remove_key(self, name: KeyName) -> None:
        """For good: nothing makes the same key again. Without effect where there is none."""
        ...

    def sign(self, digest: bytes) -> bytes:
        """The identity key's ECDSA over a SHA-256 digest, as DER. Raises Unavailable (tpm.missing)."""
        ...

    def activate_credential(self, name: KeyName, credential: Credential) -> bytes:
        """The secret that was made for this TPM's endorsement key and this key.

        Raises Refused (tpm.blob) for a credential of another TPM or key, Unavailable (tpm.missing).
        """
        ...


class TpmMeasurements(Protocol):
    def pcr_extend(self, index: int, digest: bytes) -> None: ...

    def pcr_read(self, selection: Sequence[int]) -> PcrValues: ...

    def quote(self, nonce: bytes, selection: Sequence[int]) -> TpmQuote:
        """By the attestation key; a nonce of 1 to 32 bytes. Raises Unavailable (tpm.missing)."""
        ...


class TpmCounters(Protocol):
    """NV counters never go down. One that was removed begins above every value that any has had, and two
    can begin with the same: a counter's first value means nothing by itself."""

    def define_counter(self, index: int) -> int:
        """Make it, unless it is there, and give its value; a cut is made good by asking again.

        Raises Refused (tpm.exists) where something else has this index.
        """
        ...

    def counter(self, index: int) -> int:
        """Raises Unavailable (tpm.missing)."""
        ...

    def increment(self, index: int) -> None:
        """By one, for ever once it has returned. Raises Unavailable (tpm.missing)."""
        ...

    def remove_counter(self, index: int) -> None:
        """Without effect where there is none."""
        ...

    def fix(self, index: int, data: bytes) -> None:
        """Write data that nothing changes or deletes again, as a fuse; a cut is made good by asking again.

        It takes the platform hierarchy, which a PC's firmware keeps to itself: for the plant.
        Raises Refused (tpm.exists) where the index holds other data, tpm.authorisation.
        """
        ...

    def fixed(self, index: int) -> bytes:
        """Raises Unavailable (tpm.missing) also for what is not fixed for good."""
        ...


class TpmChains(Protocol):
    """NV chains hold SHA-256(value ‖ data) after each extension, as PCRs do, but with the power off too: what
    one holds says which data came, and in which order. Removed and made again, it begins anew."""

    def define_chain(self, index: int) -> bytes:
        """Make it, unless it is there, extended with 32 zeros, and give its value; a cut is made good by
        asking again. Raises Refused (tpm.exists) where something else has this index."""
        ...

    def chain(self, index: int) -> bytes:
        """Raises Unavailable (tpm.missing)."""
        ...

    def extend_chain(self, index: int, data: bytes) -> None:
        """For ever once it has returned; encrypted on the bus. Raises Unavailable (tpm.missing)."""
        ...


class TpmSealing(Protocol):
    def seal(self, data: Buffer, policy: bytes) -> SealedBlob:
        """1 to 128 bytes, for sessions with this policy digest."""
        ...

    def unseal(self, blob: SealedBlob, steps: Sequence[PolicyStep]) -> bytearray:
        """For the caller to wipe.

        Raises TrustRefused: tpm.policy where the steps fail or make another policy, tpm.blob where the blob
        was changed or is another TPM's. Unavailable (tpm.missing) for a counter that is not there.
        """
        ...


class Tpm(TpmKeys, TpmMeasurements, TpmCounters, TpmChains, TpmSealing, Protocol):
    """All of it, and what concerns the TPM as a whole."""

    def facts(self) -> TpmFacts: ...

    def random(self, count: int) -> bytes: ...

    def clock(self) -> Clock: ...

    def set_lockout_auth(self, new: bytes, current: bytes = b"") -> None:
        """What `clear` takes. A wrong `current` locks it for hours: Refused (tpm.authorisation)."""
        ...

    def clear(self, lockout_auth: bytes = b"") -> None:
        """TPM2_Clear: both keys, sealed blobs and counters are gone for good, and the authorisation is empty
        again. The endorsement key, fixed data and every counter's highest value stay.

        Raises Refused (tpm.authorisation), as `set_lockout_auth`.
        """
        ...

    def shutdown(self) -> None:
        """TPM2_Shutdown, before the power goes. PCRs are lost at the next start."""
        ...
