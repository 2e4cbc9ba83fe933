"""The list of published keys: sound in form, true where it can be made again, and easy to add to."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.published import refuse, where
from cellward.core.published_keys import TABLE
from tests.support.maker import GENERATORS, Hand, PrivateKey
from tools import published_keys as maker

SETS = maker.sets_of(TABLE)
CURVES = {Algorithm.P256: ec.SECP256R1(), Algorithm.P384: ec.SECP384R1()}
# SubjectPublicKeyInfo of demo keys as MCUboot's simulator has them in C, without what is the same for all.
MCUBOOT_P256 = (
    "2acb403ce8feed5ba44995a1a91daee8dbbe1937cd14fb2f245737e5953988d9"
    "94b9d65aebd7cdd5308ad6fe48b24a6a810ee5f07d8b6834cc3a6afc538efac1"
)
MCUBOOT_ED25519 = "d4b31ba49a3add3f825d10ca7f31b50b0de87f37ccc49f1a403a5c1320ffb4e0"
RFC6979_P384 = (
    "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d8"  # section A.2.6
    "96d5724e4c70a825f872c9ea60d2edf5"
)
# As Trusted Firmware-M lists them itself, in its templates for the fuses.
TFM_RSA_3072 = "bfe6d86f8826f4ff97fb96c4e6fbc4993e4619fc565da26adf34c329489adc38"
TFM_P256 = "e30466f6b8470c1f29070b17f1e2d3e94d445e3f608087fdc711e4382bb538b6"


def public(key: PrivateKey) -> PublicKey:
    return PublicKey.from_cryptography(key.public_key())


def test_the_form_of_the_table() -> None:
    rows = [(title, *row) for title, keys in SETS.items() for row in keys.items()]
    assert len(rows) > 500
    first = {fingerprint: f"{title}: {name}" for title, fingerprint, name in reversed(rows)}
    for fingerprint, said in first.items():
        assert (bytes.fromhex(fingerprint).hex(), len(fingerprint)) == (fingerprint, 64)
        assert where(fingerprint) == said
    assert maker.render(SETS).partition('TABLE = """')[2].removesuffix('"""\n') == TABLE


@pytest.mark.parametrize("algorithm", GENERATORS)
def test_a_new_key_is_not_in_it(algorithm: Algorithm) -> None:
    key = Hand.of(algorithm).public_key
    assert key.unpublished("key") is key


@pytest.mark.parametrize("text", ["", "\n", " ", "[", "ab" * 31, TFM_P256[:-1], TFM_P256.upper()])
def test_nothing_but_a_whole_fingerprint_is_found(text: str) -> None:
    assert where(text) is None


def test_the_demo_keys_of_mcuboot_and_tfm() -> None:
    point = bytes.fromhex("04" + MCUBOOT_P256)
    p256 = PublicKey.from_cryptography(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    edwards = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(MCUBOOT_ED25519))
    assert p256.fingerprint == TFM_P256  # two projects, one key
    assert where(p256.fingerprint) == "MCUboot's repository: root-ec-p256.pem"
    assert where(PublicKey.from_cryptography(edwards).fingerprint) == "MCUboot's repository: root-ed25519.pem"
    assert where(TFM_RSA_3072) == "Trusted Firmware-M, bl2/ext/mcuboot: root-RSA-3072.pem"


@pytest.mark.parametrize(
    ("algorithm", "scalar", "says"),
    [
        (
            Algorithm.P256,
            "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
            "RFC 6979 A.2.5",
        ),
        (Algorithm.P384, RFC6979_P384, "RFC 6979 A.2.6"),
        (Algorithm.P256, "e6cb5bdd80aa45ae9c95e8c15476679ffec953c16851e711e743939589c64fc1", "RFC 9500"),
        (Algorithm.P256, "519b423d715f8b581f4fa8ee59f4771a5b44c8130b4e3eacca54a56dda72b464", "NIST CAVP"),
    ],
)
def test_keys_of_standards(algorithm: Algorithm, scalar: str, says: str) -> None:
    key = public(ec.derive_private_key(int(scalar, 16), CURVES[algorithm]))
    with pytest.raises(TrustRefused) as error:
        key.unpublished("release key")
    assert (error.value.code, error.value.subject) == (Code.KEY_PUBLISHED, "release key")
    assert says in error.value.found
    assert key.fingerprint[:16] in error.value.found
    assert "cellward keys new" in error.value.advice


@pytest.mark.parametrize("algorithm", CURVES)
@pytest.mark.parametrize("k", range(1, 17))
def test_small_scalars_of_either_sign(algorithm: Algorithm, k: int) -> None:
    curve = CURVES[algorithm]
    key = ec.derive_private_key(k, curve).public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    negative = ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes([point[0] ^ 1]) + point[1:])
    for each in (key, negative):
        with pytest.raises(TrustRefused) as error:
            refuse(PublicKey.from_cryptography(each).fingerprint, "key")
        assert "guessable" in error.value.found


def test_what_can_be_guessed_is_made_again() -> None:
    assert SETS[maker.GUESSABLE] == {key.fingerprint: name for name, key in maker.guessable()}


def test_a_set_is_made_of_a_folder(tmp_path: Path) -> None:
    """Private halves alone, of our algorithms; whatever else lies there is left."""
    ours = {name: Hand.of(Algorithm.P256).key for name in ("a.pem", "b.der", "two.txt")}
    second, edwards = Hand.of(Algorithm.ML_DSA_65).key, Hand.of(Algorithm.ED25519).key
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for name, key in ours.items():
        encoding = serialization.Encoding.DER if name.endswith("der") else serialization.Encoding.PEM
        (tmp_path / name).write_bytes(
            b"\n" * (not name.endswith("der")) + key.private_bytes(encoding, pkcs8, plain)
        )
    with (tmp_path / "two.txt").open("ab") as file:
        file.write(second.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    small = rsa.generate_private_key(65537, 2048).private_bytes(serialization.Encoding.PEM, pkcs8, plain)
    (tmp_path / "small.pem").write_bytes(small)
    (tmp_path / "public.pem").write_bytes(Hand().public_key.pem())
    (tmp_path / "bad.der").write_bytes(b"\x30\x82")
    (tmp_path / "some.keys").write_text(
        f"one of two p256 {'07' * 32}\nother public {public(edwards).encoded.hex()}\n"
    )
    (tmp_path / "SigGen.txt").write_text(
        f"#  CAVS 11\n[P-224]\nd = 05\n[P-256,SHA-1]\nd = {9:064x}\n[B-163]\nd = 06\n"
    )
    wanted = {public(key).fingerprint: name for name, key in ours.items()}
    wanted |= {public(second).fingerprint: "two.txt#2", public(edwards).fingerprint: "other"}
    for scalar, name in (("07" * 32, "one of two"), (f"{9:064x}", "SigGen.txt P-256 #1")):
        wanted[public(ec.derive_private_key(int(scalar, 16), ec.SECP256R1())).fingerprint] = name
    assert maker.collect(tmp_path) == wanted


def test_fingerprints_are_what_a_slot_of_the_fuses_holds() -> None:
    key = Hand().public_key
    assert key.fingerprint == hashlib.sha256(key.encoded).hexdigest() == key.key_hash.hex()
