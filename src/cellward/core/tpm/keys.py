"""Which public areas are what they are said to be, before anything that their keys sign is believed.

All of it binds to one TPM only together with a credential (core/tpm/credential): that an object with this
Name is in the TPM of that endorsement key is what TPM2_ActivateCredential proves, one for each key.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import P256_SPKI_PREFIX, PublicKey
from cellward.core.tpm.numbers import Alg, Hierarchy, ObjectAttributes
from cellward.core.tpm.policy import Policy
from cellward.core.tpm.public import (
    RSA_BITS,
    RSA_SIZE,
    Public,
    Scheme,
    Symmetric,
    decode_public,
    qualified_name,
)
from cellward.core.wire import be32

_Is = ObjectAttributes
CONFINED = _Is.FIXED_TPM | _Is.FIXED_PARENT | _Is.SENSITIVE_DATA_ORIGIN
"""Made in this TPM and never outside of it."""
ATTESTS = CONFINED | _Is.RESTRICTED | _Is.SIGN
IDENTIFIES = CONFINED | _Is.SIGN
_JUDGED = (
    ATTESTS | _Is.DECRYPT | _Is.ENCRYPTED_DUPLICATION | _Is.X509_SIGN
)  # who may use the key, and when, is the pack's own affair
_ENDORSES = CONFINED | _Is.ADMIN_WITH_POLICY | _Is.RESTRICTED | _Is.DECRYPT
ENDORSEMENT_POLICY = Policy().secret(be32(Hierarchy.ENDORSEMENT)).digest

EndorsementPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True)
class IdentityKey:
    """Signs whatever the pack says, and nothing outside the TPM ever could."""

    name: bytes
    key: PublicKey


@dataclass(frozen=True)
class AttestationKey:
    """Signs only what its TPM itself says."""

    name: bytes
    qualified_name: bytes
    key: PublicKey


def identity_key(area: bytes) -> IdentityKey:
    """Raises FormatRefused (wire.*, attest.format, key.format), TrustRefused (attest.key)."""
    public = _signing_key(area, IDENTIFIES, "identity key")
    return IdentityKey(public.name, public.point)


def attestation_key(area: bytes, parent: bytes) -> AttestationKey:
    """`parent` as in `qualified_name`: where in its TPM the key is. Raises as `identity_key`."""
    public = _signing_key(area, ATTESTS, "attestation key")
    return AttestationKey(public.name, qualified_name(parent, public.name), public.point)


def _signing_key(area: bytes, wanted: ObjectAttributes, subject: str) -> Public:
    public = decode_public(area)
    if public.scheme is not Scheme.ECDSA_SHA256:  # which only an ECC key can have
        raise TrustRefused(
            Code.ATTEST_KEY,
            subject,
            expected="ECDSA P-256 with SHA-256",
            found=f"{public.kind.name}, scheme {public.scheme.name}",
        )
    found = public.attributes & _JUDGED
    if found != wanted:
        raise TrustRefused(Code.ATTEST_KEY, subject, expected=_words(wanted), found=_words(found))
    return public


def endorsement_key(area: bytes, certified: EndorsementPublicKey) -> Public:
    """The area of the default template (EK Credential Profile 2.5, L-1 and L-2) with the certified key.

    The certificate vouches for the key alone: with other attributes it could decrypt for anybody who asks.
    Raises TrustRefused (attest.endorsement).
    """
    template = endorsement_template(certified)
    if area != template.encode():
        raise TrustRefused(
            Code.ATTEST_ENDORSEMENT,
            "endorsement key",
            expected=f"the certified key in the default template, Name {template.name.hex()[4:20]}…",
            found="another public area",
            advice="use the TPM's own endorsement key, RSA-2048 or ECC P-256",
        )
    return template


def endorsement_template(certified: EndorsementPublicKey) -> Public:
    """Raises TrustRefused (attest.endorsement) for a key of another kind than RSA-2048 and ECC P-256."""
    if isinstance(certified, ec.EllipticCurvePublicKey) and isinstance(certified.curve, ec.SECP256R1):
        kind, unique = Alg.ECC, PublicKey.from_cryptography(certified).encoded[len(P256_SPKI_PREFIX) :]
    elif isinstance(certified, rsa.RSAPublicKey) and certified.key_size == RSA_BITS and _usual(certified):
        kind, unique = Alg.RSA, certified.public_numbers().n.to_bytes(RSA_SIZE, "big")
    else:
        raise TrustRefused(
            Code.ATTEST_ENDORSEMENT,
            "endorsement key",
            expected="RSA-2048 (exponent 65537) or ECC P-256",
            found=f"{type(certified).__name__}, {certified.key_size} bits",
        )
    return Public(kind, _ENDORSES, unique, ENDORSEMENT_POLICY, Symmetric.AES_128_CFB)


def _usual(key: rsa.RSAPublicKey) -> bool:
    return key.public_numbers().e == 65537


def external_key(key: PublicKey) -> Public:
    """A public key from outside, as TPM2_LoadExternal is given it to verify by.

    It is Cellward's own choice of attributes: the Name depends on them, and policies on the Name.
    """
    key.cryptography  # noqa: B018  P-256, or key.format
    return Public(
        Alg.ECC, _Is.USER_WITH_AUTH | _Is.SIGN, key.encoded[len(P256_SPKI_PREFIX) :], scheme=Scheme.NONE
    )


def _words(attributes: ObjectAttributes) -> str:
    return " ".join(flag.name.lower() for flag in _Is if flag in attributes and flag.name) or "none of them"
