"""What a TPM would sign, made up field by field: also what none would."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cellward.core.keys import P256_SPKI_PREFIX, PublicKey
from cellward.core.tpm import pcr
from cellward.core.tpm.keys import ATTESTS, AttestationKey, attestation_key
from cellward.core.tpm.numbers import ATTEST_QUOTE, GENERATED, Alg, Hierarchy, ObjectAttributes
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.public import Public, Scheme
from cellward.core.wire import be16, be32, be_sized

NONCE = bytes(range(32))
OWNER = be32(Hierarchy.OWNER)
VALUES = PcrValues({8: b"\x08" * 32, 9: b"\x09" * 32})
PRIVATE = ec.generate_private_key(ec.SECP256R1())


def signing_area(
    attributes: ObjectAttributes = ATTESTS, scheme: Scheme = Scheme.ECDSA_SHA256, key: PublicKey | None = None
) -> Public:
    key = key or PublicKey.from_cryptography(PRIVATE.public_key())
    return Public(Alg.ECC, attributes, key.encoded[len(P256_SPKI_PREFIX) :], scheme=scheme)


KEY: AttestationKey = attestation_key(signing_area().encode(), OWNER)


def attested(
    *,
    magic: int = GENERATED,
    kind: int = ATTEST_QUOTE,
    signer: bytes = KEY.qualified_name,
    nonce: bytes = NONCE,
    clock: bytes = (1234).to_bytes(8, "big"),
    starts: bytes = be32(3) + be32(4),
    safe: bytes = b"\1",
    firmware: bytes = (5).to_bytes(8, "big"),
    selection: bytes = pcr.encode_selection(VALUES.selection),
    digest: bytes = VALUES.digest,
) -> bytes:
    """TPMS_ATTEST of a good quote, but for what is given."""
    return b"".join(
        (
            *(be32(magic), be16(kind), be_sized(signer), be_sized(nonce)),
            *(clock, starts, safe, firmware, selection, be_sized(digest)),
        )
    )


def signed(data: bytes, private: ec.EllipticCurvePrivateKey = PRIVATE) -> bytes:
    """TPMT_SIGNATURE over it."""
    return encoded(*decode_dss_signature(private.sign(data, ec.ECDSA(hashes.SHA256()))))


def encoded(r: int, s: int, size: int = 32) -> bytes:
    numbers = (be_sized(number.to_bytes(size, "big")) for number in (r, s))
    return be16(Alg.ECDSA) + be16(Alg.SHA256) + b"".join(numbers)
