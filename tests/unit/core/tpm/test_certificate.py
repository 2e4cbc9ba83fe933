"""Endorsement certificates: who vouches for the key, and what would make them vouch for another."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.tpm.certificate import (
    MAX_INTERMEDIATES,
    MAX_SIZE,
    EndorsementCertificate,
    load_certificate,
    verify_certificate,
)
from tests.support.manufacturer import (
    DAY,
    EK,
    MIDDLE,
    MIDDLE_CERTIFICATE,
    NOW,
    ROOT,
    ROOT_CERTIFICATE,
    RSA_EK,
    STRANGER,
    Issuer,
    der,
    tpm_facts,
    usage,
)

TWO_OIDS = (x509.ObjectIdentifier("1.2.3"), x509.ObjectIdentifier("1.2.4"))
OTHER_NAME = x509.SubjectAlternativeName([x509.OtherName(TWO_OIDS[0], b"\x05\x00")])


def verified(
    leaf: x509.Certificate, *between: x509.Certificate, now: datetime = NOW
) -> EndorsementCertificate:
    return verify_certificate(der(leaf), [der(each) for each in between], [ROOT_CERTIFICATE], now)


def refused(leaf: x509.Certificate, *between: x509.Certificate, now: datetime = NOW) -> None:
    with pytest.raises(TrustRefused) as refusal:
        verified(leaf, *between, now=now)
    assert refusal.value.code is Code.ATTEST_CERTIFICATE


@pytest.mark.parametrize("key", [EK, RSA_EK])
def test_a_certificate_under_a_root_and_under_an_intermediate(key: Any) -> None:
    found = verified(ROOT.endorse(key))
    assert (found.manufacturer, found.model, found.version) == ("id:00001014", "swtpm", "id:20191023")
    assert (found.key, found.issuer, found.serial) == (key, "CN=root", 7)
    assert verified(MIDDLE.endorse(key), MIDDLE_CERTIFICATE).issuer == "CN=middle"


def test_an_intermediate_may_be_what_is_configured() -> None:
    assert verify_certificate(der(MIDDLE.endorse()), [], [MIDDLE_CERTIFICATE], NOW).key == EK


def test_no_way_to_a_root() -> None:
    refused(MIDDLE.endorse())
    refused(STRANGER.endorse())  # the root's name, another key
    refused(STRANGER.endorse(), STRANGER.authority(STRANGER))
    with pytest.raises(TrustRefused, match="none is configured"):
        verify_certificate(der(ROOT.endorse()), [der(ROOT_CERTIFICATE)], [], NOW)


def test_every_byte_of_the_signed_part_counts() -> None:
    whole = der(ROOT.endorse())
    for at in range(4, len(whole) - 72, 7):
        edited = bytearray(whole)
        edited[at] ^= 1
        with pytest.raises(Refused) as refusal:
            verify_certificate(bytes(edited), [], [ROOT_CERTIFICATE], NOW)
        assert refusal.value.code is Code.ATTEST_CERTIFICATE


def test_times() -> None:
    short = ROOT.endorse(end=NOW + DAY)
    verified(short, now=NOW + DAY)
    refused(short, now=NOW + DAY + timedelta(seconds=1))
    refused(short, now=NOW - DAY - timedelta(seconds=1))
    refused(MIDDLE.endorse(), ROOT.authority(MIDDLE, end=NOW - timedelta(seconds=1)))


@pytest.mark.parametrize(
    "x",
    [
        {x509.BasicConstraints: (None, False)},
        {x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True)},
        {x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), False)},
        {x509.KeyUsage: (None, False)},
        {x509.KeyUsage: (usage(digital_signature=True), True)},
    ],
)
def test_an_issuer_that_is_no_authority(x: Any) -> None:
    """An endorsement certificate, say: its TPM cannot sign, but what else a manufacturer issues might."""
    refused(MIDDLE.endorse(), ROOT.authority(MIDDLE, x=x))


def test_an_authority_that_may_have_none_below() -> None:
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    lower = Issuer("lower")
    flat = ROOT.authority(MIDDLE, x={x509.BasicConstraints: (constraints, True)})
    verified(MIDDLE.endorse(), flat)
    verified(lower.endorse(), MIDDLE.authority(lower), MIDDLE_CERTIFICATE)
    refused(lower.endorse(), MIDDLE.authority(lower), flat)


@pytest.mark.parametrize(
    "x",
    [
        {x509.BasicConstraints: (None, False)},
        {x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), True)},
        {x509.KeyUsage: (None, False)},
        {x509.KeyUsage: (usage(digital_signature=True), True)},
        {x509.KeyUsage: (usage(key_encipherment=True), True)},
        {x509.ExtendedKeyUsage: (None, False)},
        {x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)},
        {x509.SubjectAlternativeName: (None, False)},
        {x509.SubjectAlternativeName: (x509.SubjectAlternativeName([x509.DNSName("tpm")]), False)},
        {x509.SubjectAlternativeName: (tpm_facts({"2.23.133.2.1": "id:00001014"}), True)},
        {x509.UnrecognizedExtension: (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b""), True)},
    ],
)
def test_a_certificate_of_the_manufacturer_for_something_else(x: Any) -> None:
    refused(ROOT.endorse(x=x))


def test_an_rsa_key_that_may_only_agree() -> None:
    refused(ROOT.endorse(RSA_EK, x={x509.KeyUsage: (usage(key_agreement=True), True)}))


def test_a_key_that_no_tpm_endorses_by() -> None:
    refused(ROOT.endorse(ed25519.Ed25519PrivateKey.generate().public_key()))


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x00", bytes(9000), der(ROOT.endorse())[:-1], der(ROOT.endorse()) + b"\0"]
)
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        load_certificate(data)
    assert refusal.value.code is Code.ATTEST_CERTIFICATE
    with pytest.raises(FormatRefused):
        verify_certificate(der(ROOT.endorse()), [data], [ROOT_CERTIFICATE], NOW)


ODD = {
    "a version that there is not": (der(ROOT.endorse()), b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x7b"),
    "an extension twice": (
        der(ROOT.endorse(x={oid: (x509.UnrecognizedExtension(oid, b""), False) for oid in TWO_OIDS})),
        b"\x06\x02\x2a\x04",
        b"\x06\x02\x2a\x03",
    ),
    "an X.400 address": (
        der(ROOT.endorse(x={x509.SubjectAlternativeName: (OTHER_NAME, False)})),
        b"\xa0\x08\x06\x02\x2a\x03",
        b"\xa3\x08\x06\x02\x2a\x03",
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_the_library_has_an_exception_of_its_own_for(what: str) -> None:
    data, old, new = ODD[what]
    assert data.count(old) == 1
    with pytest.raises(FormatRefused) as refusal:
        load_certificate(data.replace(old, new))
    assert refusal.value.code is Code.ATTEST_CERTIFICATE


def test_a_certificate_that_is_too_long() -> None:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(MAX_SIZE))
    with pytest.raises(FormatRefused) as refusal:
        verified(ROOT.endorse(x={x509.UnrecognizedExtension: (padding, False)}))
    assert refusal.value.code is Code.ATTEST_CERTIFICATE


def test_a_pile_of_intermediates() -> None:
    pile = [MIDDLE_CERTIFICATE] * (MAX_INTERMEDIATES + 1)
    with pytest.raises(FormatRefused) as refusal:
        verified(MIDDLE.endorse(), *pile)
    assert refusal.value.code is Code.ATTEST_CERTIFICATE
    verified(MIDDLE.endorse(), *pile[1:])
