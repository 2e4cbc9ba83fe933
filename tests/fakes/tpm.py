"""A TPM in memory, which keeps every promise of ports/tpm.py but secrecy: real keys, the TCG's bytes."""

import hmac
import secrets
import time
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import P256_SPKI_PREFIX, PublicKey
from cellward.core.tpm import pcr
from cellward.core.tpm.credential import Credential
from cellward.core.tpm.derivation import kdf_a, kdf_e
from cellward.core.tpm.keys import ATTESTS, IDENTIFIES, endorsement_template, external_key
from cellward.core.tpm.numbers import Alg, Comparison, Hierarchy, ObjectAttributes
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.policy import Policy
from cellward.core.tpm.public import Public, Scheme, qualified_name
from cellward.core.wire import BigEndianReader, be32, be_sized
from cellward.ports.tpm import (
    MAX_AUTHORISATION,
    MAX_FIXED,
    MAX_NONCE,
    MAX_SEALED,
    ApprovalStep,
    Buffer,
    Clock,
    CounterStep,
    KeyName,
    PcrStep,
    PolicyStep,
    SealedBlob,
    TpmFacts,
    TpmQuote,
    counter_area,
    of_digest,
    of_size,
    pcrs,
)
from tests.support.attested import attested, signed
from tests.support.manufacturer import ROOT, der

_AREAS = {KeyName.IDENTITY: IDENTIFIES, KeyName.ATTESTATION: ATTESTS}
_USE = ObjectAttributes.USER_WITH_AUTH | ObjectAttributes.NO_DA
_COMPARES = {
    Comparison.EQ: int.__eq__,
    Comparison.UNSIGNED_GE: int.__ge__,
    Comparison.UNSIGNED_LE: int.__le__,
}


class MemoryTpm:
    """`start` is what happens when the power comes back."""

    def __init__(self) -> None:
        self._ek = ec.generate_private_key(ec.SECP256R1())
        self._keys: dict[KeyName, tuple[ec.EllipticCurvePrivateKey, Public]] = {}
        self._counters: dict[int, int] = {}
        self._highest = 0
        self._fixed: dict[int, bytes] = {}
        self._chains: dict[int, bytes] = {}
        self._sealed: dict[bytes, tuple[bytes, bytes]] = {}
        self._lockout_auth = b""
        self._locked_out = False
        self._resets = -1
        self.skipped = 0  # milliseconds that a test does not wait
        self.start()

    def start(self) -> None:
        self._pcrs = [bytes(32) if index < 17 or index > 22 else b"\xff" * 32 for index in range(pcr.COUNT)]
        self._resets += 1
        self._started = time.monotonic_ns() // 1_000_000 + self.skipped

    # --- TpmKeys ---

    def ek_certificate(self) -> bytes:
        return der(ROOT.endorse(self._ek.public_key()))

    def ek_public(self) -> bytes:
        return endorsement_template(self._ek.public_key()).encode()

    def create_key(self, name: KeyName) -> bytes:
        if name in self._keys:
            raise Refused(Code.TPM_EXISTS, name.value)
        private = ec.generate_private_key(ec.SECP256R1())
        point = PublicKey.from_cryptography(private.public_key()).encoded[len(P256_SPKI_PREFIX) :]
        area = Public(Alg.ECC, _AREAS[name] | _USE, point, scheme=Scheme.ECDSA_SHA256)
        self._keys[name] = private, area
        return area.encode()

    def key(self, name: KeyName) -> bytes | None:
        return self._keys[name][1].encode() if name in self._keys else None

    def remove_key(self, name: KeyName) -> None:
        self._keys.pop(name, None)

    def sign(self, digest: bytes) -> bytes:
        of_digest("digest", digest)
        private, _ = self._held(KeyName.IDENTITY)
        return private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))

    def activate_credential(self, name: KeyName, credential: Credential) -> bytes:
        """core/tpm/credential.py backwards, for an ECC key."""
        blob, encrypted_seed = _sized(credential.blob), _sized(credential.encrypted_seed)
        _, area = self._held(name)
        try:
            reader = BigEndianReader(encrypted_seed, "seed")
            x, y = reader.sized(), reader.sized()
            point = PublicKey(P256_SPKI_PREFIX + x + y).cryptography
            own = endorsement_template(self._ek.public_key()).unique[:32]
            seed = kdf_e(self._ek.exchange(ec.ECDH(), point), b"IDENTITY\0", x, own)
            reader = BigEndianReader(blob, "credential")
            integrity = reader.sized()
            sealed = reader.take(reader.remaining)
            authenticate = kdf_a(seed, b"INTEGRITY", b"", 32)
            if not hmac.compare_digest(integrity, hmac.digest(authenticate, sealed + area.name, "sha256")):
                raise TrustRefused(Code.TPM_BLOB, "credential")
        except FormatRefused as refusal:
            raise TrustRefused(Code.TPM_BLOB, "credential") from refusal
        return _sized(_decrypt(kdf_a(seed, b"STORAGE", area.name, 16), sealed))

    # --- TpmMeasurements ---

    def pcr_extend(self, index: int, digest: bytes) -> None:
        pcrs([index])
        self._pcrs[index] = pcr.extend(self._pcrs[index], of_digest("digest", digest))

    def pcr_read(self, selection: Sequence[int]) -> PcrValues:
        return PcrValues({index: self._pcrs[index] for index in pcrs(selection)})

    def quote(self, nonce: bytes, selection: Sequence[int]) -> TpmQuote:
        of_size("nonce", nonce, 1, MAX_NONCE)
        private, area = self._held(KeyName.ATTESTATION)
        values = self.pcr_read(selection)
        data = attested(
            signer=qualified_name(be32(Hierarchy.ENDORSEMENT), area.name),
            nonce=nonce,
            clock=self.clock().milliseconds.to_bytes(8, "big"),
            starts=be32(self._resets) + be32(0),
            selection=pcr.encode_selection(values.selection),
            digest=values.digest,
        )
        return TpmQuote(data, signed(data, private))

    # --- TpmCounters ---

    def define_counter(self, index: int) -> int:
        if index in self._fixed or index in self._chains:
            raise Refused(Code.TPM_EXISTS, f"{index:#x}")
        if index not in self._counters:
            self._highest += 1
            self._counters[index] = self._highest
        return self._counters[index]

    def counter(self, index: int) -> int:
        if index not in self._counters:
            raise Unavailable(Code.TPM_MISSING, f"{index:#x}")
        return self._counters[index]

    def increment(self, index: int) -> None:
        self._counters[index] = self.counter(index) + 1
        self._highest = max(self._highest, self._counters[index])

    def remove_counter(self, index: int) -> None:
        self._counters.pop(index, None)
        self._chains.pop(index, None)

    def fix(self, index: int, data: bytes) -> None:
        of_size("fixed data", data, 1, MAX_FIXED)
        if index in self._counters or self._fixed.get(index, data) != data:
            raise Refused(Code.TPM_EXISTS, f"{index:#x}")
        self._fixed[index] = data

    def fixed(self, index: int) -> bytes:
        if index not in self._fixed:
            raise Unavailable(Code.TPM_MISSING, f"{index:#x}")
        return self._fixed[index]

    # --- TpmChains ---

    def define_chain(self, index: int) -> bytes:
        if index in self._fixed or index in self._counters:
            raise Refused(Code.TPM_EXISTS, f"{index:#x}")
        return self._chains.setdefault(index, pcr.extend(bytes(32), bytes(32)))

    def chain(self, index: int) -> bytes:
        if index not in self._chains:
            raise Unavailable(Code.TPM_MISSING, f"{index:#x}")
        return self._chains[index]

    def extend_chain(self, index: int, data: bytes) -> None:
        of_digest("chain's data", data)
        self._chains[index] = pcr.extend(self.chain(index), data)

    # --- TpmSealing ---

    def seal(self, data: Buffer, policy: bytes) -> SealedBlob:
        of_size("sealed data", data, 1, MAX_SEALED)
        of_digest("policy", policy)
        blob = be_sized(secrets.token_bytes(120)) + be_sized(secrets.token_bytes(78))
        self._sealed[blob] = bytes(data), policy
        return SealedBlob(blob)

    def unseal(self, blob: SealedBlob, steps: Sequence[PolicyStep]) -> bytearray:
        reader = BigEndianReader(blob.data, "sealed data")
        _ = reader.sized(), reader.sized()
        reader.finish()
        if blob.data not in self._sealed:
            raise TrustRefused(Code.TPM_BLOB, "sealed data")
        data, wanted = self._sealed[blob.data]
        policy = Policy()
        for step in steps:
            policy = self._taken(policy, step)
        if policy.digest != wanted:
            raise TrustRefused(Code.TPM_POLICY, "sealed data")
        return bytearray(data)

    def _taken(self, policy: Policy, step: PolicyStep) -> Policy:
        match step:
            case PcrStep(selection):
                return policy.pcr(self.pcr_read(selection))
            case CounterStep(index, comparison, value):
                if _COMPARES[comparison](self.counter(index), value) is not True:
                    raise TrustRefused(Code.TPM_POLICY, "counter")
                return policy.counter(counter_area(index), comparison, value)
            case ApprovalStep(approver, approved, reference):
                try:
                    judged = approved.verify(approver, reference)
                except TrustRefused as refusal:
                    raise TrustRefused(Code.TPM_POLICY, "approval") from refusal
                if judged != policy:
                    raise TrustRefused(Code.TPM_POLICY, "approval")
                return Policy.authorize(external_key(approver).name, reference)

    # --- the TPM as a whole ---

    def facts(self) -> TpmFacts:
        return TpmFacts("FAKE", "memory", 1, 0, self._locked_out)

    def random(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def clock(self) -> Clock:
        now = time.monotonic_ns() // 1_000_000 + self.skipped
        return Clock(now, self._resets, 0, safe=True, since_start=now - self._started)

    def set_lockout_auth(self, new: bytes, current: bytes = b"") -> None:
        of_size("lockout authorisation", new, 0, MAX_AUTHORISATION)
        self._authorise(current)
        self._lockout_auth = new

    def clear(self, lockout_auth: bytes = b"") -> None:
        self._authorise(lockout_auth)
        self._lockout_auth = b""
        self._resets = 0
        for gone in (self._keys, self._counters, self._chains, self._sealed):
            gone.clear()

    def shutdown(self) -> None:
        return

    def _authorise(self, lockout_auth: bytes) -> None:
        of_size("lockout authorisation", lockout_auth, 0, MAX_AUTHORISATION)
        if self._locked_out:
            raise Unavailable(Code.TPM_LOCKOUT, "lockout authorisation")
        if lockout_auth != self._lockout_auth:
            self._locked_out = True
            raise Refused(Code.TPM_AUTHORISATION, "lockout authorisation")

    def _held(self, name: KeyName) -> tuple[ec.EllipticCurvePrivateKey, Public]:
        if name not in self._keys:
            raise Unavailable(Code.TPM_MISSING, name.value)
        return self._keys[name]


def _sized(data: bytes) -> bytes:
    reader = BigEndianReader(data, "credential")
    found = reader.sized()
    reader.finish()
    return found


def _decrypt(key: bytes, sealed: bytes) -> bytes:
    """AES-128-CFB from an IV of zeros."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    found, register = b"", bytes(16)
    for start in range(0, len(sealed), 16):
        some = sealed[start : start + 16]
        found += bytes(a ^ b for a, b in zip(some, block.update(register), strict=False))
        register = some
    return found
