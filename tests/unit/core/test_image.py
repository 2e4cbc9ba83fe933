"""The image: layout as imgtool writes it, one reading of every byte, one order of the checks.

Every refusal has its case in vectors/; here are the parts around them, and the words of the refusals.
"""

import dataclasses
import hashlib
import struct

import pytest

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.image import (
    ACCEPTED_FLAGS,
    SINGLE_TYPES,
    TLV_MAGIC,
    UNPROTECTED_TYPES,
    Entry,
    Flag,
    Image,
    KeyTlv,
    Tlv,
    Trust,
    Unsigned,
    Version,
    build,
    decode,
    decode_slot,
    encode_area,
    verify,
    verify_stated,
)
from cellward.core.slots import BMS_M33
from vectors.forge import CLASS, COUNTER, PAYLOAD, VENDOR, VERSION, Draft, EdKey, Key, hardware_tlvs

KEY = Key.make()
ED25519 = EdKey.make()
OTHER = Key.make()
DRAFT = Draft()
GOOD = DRAFT.seal(KEY).write()
ROM = Trust({KEY.public.key_hash: None}, counter=COUNTER, hardware=(VENDOR, CLASS))
FILE = Trust({KEY.public.key_hash: KEY.public})


def refusal(data: bytes, trust: Trust = ROM) -> Refused:
    with pytest.raises(Refused) as caught:
        verify(decode(data, "it"), trust, "it")
    assert caught.value.subject == "it"
    return caught.value


# Versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0.0.0", (0, 0, 0, 0)),
        ("1.4.0", (1, 4, 0, 0)),
        ("1.4.0+0", (1, 4, 0, 0)),
        ("255.255.65535+4294967295", (255, 255, 65535, 2**32 - 1)),
        ("01.02.003", (1, 2, 3, 0)),
    ],
)
def test_versions_that_are(text: str, parts: tuple[int, int, int, int]) -> None:
    assert Version.parse(text) == Version(*parts)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.3-rc1",
            "v1.2.3",
            "1.2.3+",
            "1.2.3+x",
            " 1.2.3",
            "1.2.3\n",
            "-1.2.3",
        ),
        *("256.0.0", "0.256.0", "0.0.65536", "0.0.0+4294967296", "0.0.0+99999999999", "1000.0.0"),
        *("\u0661.2.3", "1.2.3+\u0661"),  # digits of another script
    ],
)
def test_versions_that_are_not(text: str) -> None:
    with pytest.raises(FormatRefused) as caught:
        Version.parse(text)
    assert caught.value.code is Code.IMAGE_VERSION
    assert repr(text) in caught.value.subject


def test_versions_are_ordered_field_by_field_build_included() -> None:
    ascending = ["0.0.0", "0.0.0+1", "0.0.1", "0.1.0", "0.9.0", "0.10.0", "1.0.0", "1.0.0+10", "1.0.1+9"]
    versions = [Version.parse(text) for text in ascending]
    shuffled = versions[1::2] + versions[::2]
    assert sorted(shuffled) == versions


@pytest.mark.parametrize("text", ["1.4.0", "255.255.65535+4294967295", "0.0.0+7"])
def test_a_version_prints_as_it_was_parsed(text: str) -> None:
    assert str(Version.parse(text)) == text


def test_a_version_is_encoded_as_mcuboot_s_struct() -> None:
    assert Version(1, 2, 0x0304, 0x05060708).encode() == struct.pack("<BBHI", 1, 2, 0x0304, 0x05060708)


# The format's numbers --------------------------------------------------------------------------


def test_the_allow_list_is_mcuboot_s() -> None:
    """bootutil image_validate.c, allowed_unprot_tlvs."""
    assert {int(kind) for kind in UNPROTECTED_TYPES} == {
        *(0x01, 0x02, 0x10, 0x11, 0x12, 0x20, 0x22, 0x23, 0x24, 0x25, 0x30, 0x31, 0x32, 0x33, 0x34)
    }


def test_what_is_interpreted_stands_once() -> None:
    assert {int(kind) for kind in SINGLE_TYPES} == {0x01, 0x02, 0x10, 0x22, 0x23, 0x50, 0x74, 0x75}


def test_flags_have_mcuboot_s_values() -> None:
    assert {flag.name: int(flag) for flag in Flag} == {
        "ENC_AES128": 0x4,
        "ENC_AES256": 0x8,
        "NON_BOOTABLE": 0x10,
        "RAM_LOAD": 0x20,
        "ROM_FIXED": 0x100,
        "LZMA1": 0x200,
        "LZMA2": 0x400,
        "ARM_THUMB": 0x800,
    }
    assert int(ACCEPTED_FLAGS) == 0xC


@pytest.mark.parametrize(("kind", "name"), [(0x01, "KEYHASH"), (0x74, "UUID_VENDOR"), (0xA0, "0x00a0")])
def test_a_tlv_has_a_name(kind: int, name: str) -> None:
    assert Entry(kind, b"", False, 0).name == name


def test_an_area_is_its_info_and_its_tlvs() -> None:
    area = encode_area(0x6907, [(0x10, b"ab"), (0xFFFE, b"")])
    assert area == struct.pack("<HHHH2sHH", 0x6907, 14, 0x10, 2, b"ab", 0xFFFE, 0)


# Building --------------------------------------------------------------------------------------


def make(payload: bytes = PAYLOAD, header_size: int = 0x200, load_address: int = 0) -> Unsigned:
    return build(
        payload,
        version=VERSION,
        counter=COUNTER,
        hardware=(VENDOR, CLASS),
        header_size=header_size,
        load_address=load_address,
    )


def test_the_header_by_hand() -> None:
    body = make(header_size=0x40, load_address=0x0800_0200).body
    fields = struct.unpack("<IIHHIIBBHII", body[:32])
    assert fields == (0x96F3B83D, 0x0800_0200, 0x40, 52, 64, 0, 1, 4, 0, 0, 0)
    assert body[32:0x40] == b"\xff" * 32
    assert body[0x40:0x80] == PAYLOAD
    assert body[0x80:0x88] == struct.pack("<HHHH", 0x6908, 52, 0x50, 4)
    assert body[0x88:] == struct.pack("<IHH16sHH16s", 7, 0x74, 16, VENDOR, 0x75, 16, CLASS)


def test_the_defaults_are_those_of_the_hardware() -> None:
    unsigned = build(PAYLOAD, version=VERSION, counter=COUNTER, hardware=(VENDOR, CLASS))
    assert unsigned == make(header_size=BMS_M33.header_size, load_address=0)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (VERSION, "major"),
        (decode(GOOD), "flags"),
        (decode(GOOD).entries[0], "value"),
        (ROM, "counter"),
        (verify(decode(GOOD), ROM), "key"),
        (make(), "body"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_decoded_or_verified_never_changes(value: object, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


def test_build_is_the_forge_s_independent_body() -> None:
    assert make().body == DRAFT.body


def test_the_digest_is_over_everything_signed() -> None:
    assert make().digest == hashlib.sha256(DRAFT.body).digest()


@pytest.mark.parametrize(
    ("fmt", "kinds"),
    [
        (KeyTlv.BOTH, [0x10, 0x01, 0x02, 0x22]),
        (KeyTlv.HASH, [0x10, 0x01, 0x22]),
        (KeyTlv.FULL, [0x10, 0x02, 0x22]),
    ],
)
def test_a_signed_image_carries_the_key_tlvs_asked_for(fmt: KeyTlv, kinds: list[int]) -> None:
    unsigned = make()
    signature = KEY.sign(unsigned.digest)
    image = decode(unsigned.signed(KEY.public, signature, fmt))
    plain = [entry for entry in image.entries if not entry.protected]
    assert [entry.type for entry in plain] == kinds
    assert image.find(Tlv.ECDSA) == signature
    assert image.find(Tlv.KEYHASH) in (None, KEY.public.key_hash)
    assert image.find(Tlv.PUBKEY) in (None, KEY.public.spki)
    assert verify(image, FILE).key == KEY.public


def test_both_key_tlvs_are_the_default() -> None:
    unsigned = make()
    signature = KEY.sign(unsigned.digest)
    assert unsigned.signed(KEY.public, signature) == unsigned.signed(KEY.public, signature, KeyTlv.BOTH)


@pytest.mark.parametrize(
    "signature",
    [b"", b"\x30\x00", OTHER.sign(make().digest), KEY.sign(bytes(32))],
    ids=["empty", "no numbers", "another key's", "over something else"],
)
def test_a_signer_that_answers_wrongly_ships_nothing(signature: bytes) -> None:
    with pytest.raises(TrustRefused) as caught:
        make().signed(KEY.public, signature)
    assert caught.value.code is Code.IMAGE_SIGNATURE


def test_the_body_is_not_printed() -> None:
    assert repr(make()) == "Unsigned()"
    assert "data=" not in repr(decode(GOOD))


# Decoding --------------------------------------------------------------------------------------


def test_everything_decodes_to_what_was_built() -> None:
    image = decode(make(load_address=0x1234).signed(KEY.public, KEY.sign(make(load_address=0x1234).digest)))
    assert (image.load_address, image.header_size, image.payload_size) == (0x1234, 0x200, 64)
    assert (image.protected_size, image.flags, image.version) == (52, 0, VERSION)
    assert image.signed_size == 0x200 + 64 + 52
    assert image.payload == PAYLOAD
    assert image.counter == COUNTER
    assert image.hardware == (VENDOR, CLASS)
    assert image.digest == image.stated_digest == make(load_address=0x1234).digest


def test_entries_say_where_they_stand() -> None:
    image = decode(GOOD)
    assert [entry.protected for entry in image.entries] == [True] * 3 + [False] * 4
    for entry in image.entries:
        assert GOOD[entry.offset : entry.offset + len(entry.value)] == entry.value


def test_an_image_without_what_is_optional_says_so() -> None:
    bare = decode(DRAFT.but(protected=b"").seal(KEY).ordered(Tlv.SHA256).write())
    assert (bare.counter, bare.hardware, bare.find(Tlv.ECDSA)) == (None, (None, None), None)
    assert decode(DRAFT.seal(KEY).ordered(Tlv.ECDSA).write()).stated_digest is None


def test_a_slot_is_read_to_the_image_s_end_and_no_further() -> None:
    image = decode_slot(GOOD + b"\xff" * 5000)
    assert image == decode(GOOD)
    assert image.data == GOOD


def test_a_file_is_the_image_and_nothing_else() -> None:
    assert refusal(GOOD + b"\xff").code is Code.TRAILING


@pytest.mark.parametrize(
    ("data", "code", "expected", "found"),
    [
        (GOOD[:31], Code.IMAGE_SIZE, "at least a header of 32 bytes", "31"),
        (bytes(32), Code.IMAGE_MAGIC, "0x96f3b83d at offset 0", "0x00000000"),
        (
            DRAFT.but(protected_size=51).seal(KEY).write(),
            Code.IMAGE_TLV,
            "a protected area of 51 bytes",
            "52",
        ),
        (b"\x3c" + GOOD[1:], Code.IMAGE_MAGIC, "0x96f3b83d at offset 0", "0x96f3b83c"),
        (DRAFT.but(header_size=31).body, Code.IMAGE_HEADER, "a header of 32 to 4096 bytes", "31"),
        (DRAFT.but(flags=0x30).body, Code.IMAGE_FLAGS, "only 0xc", "0x30"),
        (GOOD[:631], Code.IMAGE_SIZE, "1 to 63 bytes of payload", "64"),
        (DRAFT.but(payload_size=2**32 - 1).body, Code.IMAGE_SIZE, "1 to 60 bytes of payload", "4294967295"),
        (DRAFT.but(payload_size=63).seal(KEY).write(), Code.IMAGE_TLV, "0x6908 at offset 575", "0x083f"),
        (DRAFT.seal(KEY).ordered(0x10).write(total=3), Code.IMAGE_TLV, "an area of 4 to 40 bytes", "3"),
    ],
)
def test_refusals_say_what_was_expected_and_found(data: bytes, code: Code, expected: str, found: str) -> None:
    said = refusal(data)
    assert (said.code, said.expected, said.found) == (code, expected, found)


def test_structure_refusals_name_the_tlv() -> None:
    sealed = DRAFT.seal(KEY)
    assert refusal(sealed.plus((0x74, VENDOR)).write()).found.startswith("UUID_VENDOR at offset ")
    assert refusal(sealed.plus((0xA0, b"")).write()).found.startswith("0x00a0 at offset ")
    twice = refusal(sealed.plus((Tlv.KEYHASH, bytes(32))).write())
    assert (twice.code, twice.expected, twice.found) == (Code.IMAGE_TLV_DUPLICATE, "one KEYHASH", "two")
    short = refusal(sealed.having(Tlv.KEYHASH, bytes(20)).write())
    assert (short.expected, short.found) == ("32 bytes in KEYHASH", "20")
    inside = refusal(DRAFT.with_tlvs([(Tlv.SHA384, b"")]).seal(KEY).write())
    assert (inside.expected, inside.found) == ("SHA384 outside the protected area", "it inside")


def test_the_offset_in_a_refusal_is_the_tlv_s() -> None:
    said = refusal(DRAFT.seal(KEY).after((0xA0, b"x")).write())
    assert said.found == f"0x00a0 at offset {len(DRAFT.body) + 4}"


# Verifying -------------------------------------------------------------------------------------


def test_verify_returns_the_image_and_the_key_that_signed_it() -> None:
    image = decode(GOOD)
    for trust in (ROM, FILE):
        verified = verify(image, trust)
        assert verified.image is image
        assert verified.key == KEY.public


def test_a_named_key_serves_an_image_that_carries_only_its_hash() -> None:
    image = decode(DRAFT.seal(KEY).without(Tlv.PUBKEY).write())
    assert verify(image, FILE).key == KEY.public
    said = refusal(image.data, ROM)
    assert said.code is Code.IMAGE_NO_SIGNATURE
    assert (said.found, "full public key" in said.expected) == ("KEYHASH alone", True)


def test_no_trusted_key_is_never_a_yes() -> None:
    said = refusal(GOOD, Trust({}))
    assert said.code is Code.IMAGE_KEY_UNKNOWN
    assert said.expected == "a key hash of no key"
    assert said.found == KEY.public.fingerprint[:16]


def test_an_unknown_key_is_told_which_are_known() -> None:
    said = refusal(GOOD, Trust({OTHER.public.key_hash: None, bytes(32): None}))
    assert said.expected == f"a key hash of {OTHER.public.fingerprint[:16]}, {'0' * 16}"


def test_what_the_trust_does_not_hold_is_not_checked() -> None:
    bare = DRAFT.but(protected=b"").seal(KEY).write()
    assert verify(decode(bare), FILE).image.counter is None
    assert refusal(bare, Trust(FILE.keys, counter=0)).found == "none"
    said = refusal(bare, Trust(FILE.keys, hardware=(VENDOR, CLASS)))
    assert (said.code, said.found) == (Code.IMAGE_HARDWARE, "none-none")
    assert said.expected == f"vendor-class {VENDOR.hex()[:8]}-{CLASS.hex()[:8]}"


@pytest.mark.parametrize(("counter", "ok"), [(6, False), (7, True), (8, True), (2**32 - 1, True)])
def test_the_counter_may_stay_or_rise(counter: int, ok: bool) -> None:
    data = DRAFT.with_tlvs(hardware_tlvs(counter)).seal(KEY).write()
    if ok:
        assert verify(decode(data), ROM).image.counter == counter
    else:
        said = refusal(data)
        assert said.code is Code.IMAGE_COUNTER
        assert (said.expected, said.found) == ("a security counter of at least 7", "6")


def test_a_revoked_key_is_refused_even_where_it_is_named() -> None:
    for trust in (ROM, FILE):
        said = refusal(GOOD, Trust(trust.keys, revoked=frozenset({KEY.public.key_hash})))
        assert (said.code, said.found) == (Code.IMAGE_KEY_REVOKED, KEY.public.fingerprint[:16])


def test_the_digest_s_refusal_shows_both() -> None:
    said = refusal(DRAFT.seal(KEY).having(Tlv.SHA256, bytes(32)).write())
    assert (said.expected, said.found) == (f"SHA-256 {'00' * 32}", DRAFT.digest.hex())
    none = refusal(DRAFT.seal(KEY).without(Tlv.SHA256).write())
    assert (none.code, none.expected, none.found) == (Code.IMAGE_HASH, "a SHA-256 TLV", "none")


def test_key_and_signature_refusals_say_which() -> None:
    sealed = DRAFT.seal(KEY)
    assert refusal(sealed.without(Tlv.ECDSA).write()).found == "none"
    after = refusal(sealed.ordered(Tlv.SHA256, Tlv.ECDSA, Tlv.KEYHASH, Tlv.PUBKEY).write())
    assert (after.expected, after.found) == ("the key before its signature", "it after")
    mixed = refusal(sealed.having(Tlv.KEYHASH, OTHER.public.key_hash).write())
    assert mixed.expected == f"PUBKEY to hash to KEYHASH {OTHER.public.fingerprint[:16]}"
    assert mixed.found == KEY.public.fingerprint[:16]
    assert refusal(sealed.having(Tlv.PUBKEY, b"").write()).found == "0 other bytes"
    form = refusal(sealed.having(Tlv.ECDSA, b"\x30\x00").write())
    assert (form.code, form.found) == (Code.IMAGE_SIGNATURE, "another form")


def test_a_key_off_the_curve_is_refused_though_its_hash_is_trusted() -> None:
    spki = KEY.public.spki[:-1] + bytes([KEY.public.spki[-1] ^ 1])
    key_hash = hashlib.sha256(spki).digest()
    data = DRAFT.seal(KEY).having(Tlv.PUBKEY, spki).having(Tlv.KEYHASH, key_hash).write()
    said = refusal(data, Trust({key_hash: None}))
    assert (said.code, said.found) == (Code.IMAGE_KEY_MALFORMED, "another point")
    assert said.expected == "a point on P-256"


def encrypted() -> Image:
    """What the pack controller holds: the header and TLVs are clear, the payload is not."""
    return decode(GOOD.replace(PAYLOAD, bytes(b ^ 0x5A for b in PAYLOAD)))


def test_a_stated_digest_is_verified_without_the_plaintext() -> None:
    image = encrypted()
    assert refusal(image.data).code is Code.IMAGE_HASH
    verified = verify_stated(image, ROM)
    assert (verified.image, verified.key) == (image, KEY.public)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (DRAFT.seal(KEY).without(Tlv.SHA256).write(), Code.IMAGE_HASH),
        (DRAFT.seal(KEY).having(Tlv.SHA256, bytes(32)).write(), Code.IMAGE_SIGNATURE),
        (DRAFT.seal(OTHER).write(), Code.IMAGE_KEY_UNKNOWN),
        (DRAFT.with_tlvs(hardware_tlvs(6)).seal(KEY).write(), Code.IMAGE_COUNTER),
        (DRAFT.with_tlvs(hardware_tlvs(klass=VENDOR)).seal(KEY).write(), Code.IMAGE_HARDWARE),
    ],
)
def test_everything_else_is_still_checked_over_the_stated_digest(data: bytes, code: Code) -> None:
    with pytest.raises(TrustRefused) as caught:
        verify_stated(decode(data), ROM, "it")
    assert (caught.value.code, caught.value.subject) == (code, "it")


def test_a_digest_is_carried_over_for_the_bytes_that_were_hashed_alone() -> None:
    """An encoder that hides the image's own TLVs in another: fewer bytes are signed than were hashed."""
    whole, key = make(), ED25519  # its signature has one size
    rest = len(whole.assembled(key.public, bytes(64), KeyTlv.BOTH)) - whole.size
    hiding = wire.u16(TLV_MAGIC) + wire.u16(8 + rest) + wire.u16(Tlv.ENC_RSA2048) + wire.u16(rest)
    lying = Unsigned(whole.header[:10] + bytes(2) + whole.header[12:], PAYLOAD, hiding)
    signature = key.sign(lying.digest)
    image = lying.read_back(key.public, signature, KeyTlv.BOTH)
    assert image.signed_size < lying.size
    assert image.digest == hashlib.sha256(image.data[: image.signed_size]).digest() != lying.digest
