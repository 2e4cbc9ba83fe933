"""What PKCS#11 calls each algorithm: types, mechanisms, and the encoding of a public key object."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cellward.adapters.pkcs11.vendor import Attribute, KeyType, pkcs11
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.keys import (
    DIGEST_SIZE,
    RSA3072_PKCS1_PREFIX,
    RSA3072_PKCS1_SUFFIX,
    RSA_EXPONENT,
    SPKI_PREFIXES,
    Algorithm,
)

Mechanism = pkcs11.Mechanism
RSA_BITS = 3072
_OCTET_STRING = 0x04

Generate = Callable[[pkcs11.Session, dict[str, Any]], pkcs11.Object]


@dataclass(frozen=True)
class Kind:
    """How one algorithm's keys are made and how they sign. `parameters`: CKA_EC_PARAMS, empty for RSA."""

    type: KeyType
    parameters: bytes
    mechanism: pkcs11.Mechanism
    generate: Generate = field(repr=False)
    mechanism_parameters: tuple[object, ...] | None = None


@dataclass(frozen=True)
class PublicObject:
    """The attributes of a public key object; empty where it has none."""

    type: str
    parameters: bytes
    point: bytes
    modulus: bytes
    exponent: bytes


def _curve(kind: KeyType, parameters: bytes, mechanism: pkcs11.Mechanism | None = None) -> Generate:
    def generate(session: pkcs11.Session, options: dict[str, Any]) -> pkcs11.Object:
        curve = session.create_domain_parameters(kind, {Attribute.EC_PARAMS: parameters}, local=True)
        return curve.generate_keypair(mechanism=mechanism, **options)[1]

    return generate


def _rsa(session: pkcs11.Session, options: dict[str, Any]) -> pkcs11.Object:
    public = {**options["public_template"], Attribute.PUBLIC_EXPONENT: RSA_EXPONENT.to_bytes(3, "big")}
    return session.generate_keypair(KeyType.RSA, RSA_BITS, **{**options, "public_template": public})[1]


_P256 = bytes.fromhex("06082a8648ce3d030107")  # OIDs: secp256r1 and secp384r1 (RFC 5480),
_P384 = bytes.fromhex("06052b81040022")
_ED25519 = bytes.fromhex("06032b6570")  # and id-Ed25519 (RFC 8410), which SoftHSM wants, not the name

# SoftHSM has no CKM_ECDSA_SHA256, so the digest is the caller's. PSS: hash, mask and bytes of salt
# (PKCS#11 v2.40, 2.1.10). No token that was tried has ML-DSA (PKCS#11 v3.2).
KINDS: dict[Algorithm, Kind] = {
    Algorithm.P256: Kind(KeyType.EC, _P256, Mechanism.ECDSA, _curve(KeyType.EC, _P256)),
    Algorithm.P384: Kind(KeyType.EC, _P384, Mechanism.ECDSA, _curve(KeyType.EC, _P384)),
    Algorithm.ED25519: Kind(
        KeyType.EC_EDWARDS,
        _ED25519,
        Mechanism.EDDSA,
        _curve(KeyType.EC_EDWARDS, _ED25519, Mechanism.EC_EDWARDS_KEY_PAIR_GEN),
    ),
    Algorithm.RSA_3072: Kind(
        KeyType.RSA, b"", Mechanism.RSA_PKCS_PSS, _rsa, (Mechanism.SHA256, pkcs11.MGF.SHA256, DIGEST_SIZE)
    ),
}


def kind_of(algorithm: Algorithm) -> Kind:
    """Raises PolicyRefused (key.format) for an algorithm that tokens do not have yet."""
    if algorithm not in KINDS:
        raise PolicyRefused(
            Code.KEY_FORMAT,
            f"a key of {algorithm.display} in a token",
            expected=", ".join(known.display for known in KINDS),
            found=algorithm.display,
            advice="no token that was tried makes such keys",
        )
    return KINDS[algorithm]


def encoded(public: PublicObject, subject: str) -> bytes:
    """What PublicKey takes, or refuses. Raises FormatRefused (key.format) for any other kind of key."""
    if public.type == KeyType.RSA.name:
        exponent = int.from_bytes(public.exponent, "big")
        modulus = public.modulus.lstrip(b"\0")
        if exponent == RSA_EXPONENT and len(modulus) * 8 == RSA_BITS:
            return RSA3072_PKCS1_PREFIX + modulus + RSA3072_PKCS1_SUFFIX
        found = f"RSA-{len(modulus) * 8} with the exponent {exponent}"
    else:
        found = f"{public.type} with the parameters {public.parameters.hex()}"
        for algorithm, kind in KINDS.items():
            if (kind.type.name, kind.parameters) == (public.type, public.parameters):
                return SPKI_PREFIXES[algorithm] + _key_bytes(algorithm, public.point)
    expected = ", ".join(algorithm.display for algorithm in KINDS)
    raise FormatRefused(Code.KEY_FORMAT, subject, expected=expected, found=found)


def _key_bytes(algorithm: Algorithm, value: bytes) -> bytes:
    """CKA_EC_POINT is a DER OCTET STRING around the key; some tokens leave the wrapping out. The prefix of
    an EC key ends with the 04 that stands before the point's coordinates."""
    if len(value) > 2 and value[0] == _OCTET_STRING and value[1] == len(value) - 2:
        value = value[2:]
    return value if algorithm is Algorithm.ED25519 else value.removeprefix(b"\x04")
