"""`cellward image` with a token behind it: sign, show, verify, and everything that is refused."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core import image
from cellward.core.errors import CellwardError, Code
from cellward.core.image import encryption
from cellward.core.slots import BMS_M33, Stage
from cellward.sign.firmware import TLV_ROOM
from tests.support import hsm
from tests.support.firmware import LINK, hex_file
from vectors import imgtool
from vectors.forge import Key

APP = files("cellward.vbms") / "firmware"
OPTIONS = ("--version", "1.4.0", "--counter", "7", "--hardware", "bms-m33")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("maker"), "firmware", "root")


def run(home: Home, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(cellward, ["--data", str(home.root), "image", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def told(home: Home, *arguments: str | Path) -> Any:
    result = run(home, *arguments, "--json")
    assert result.exception is None, result.output
    return json.loads(result.stdout)


def refused(code: Code, home: Home, *arguments: str | Path) -> CellwardError:
    error = run(home, *arguments).exception
    assert isinstance(error, CellwardError), error
    assert error.code is code
    assert "\n" not in str(error)
    return error


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    path = tmp_path / "app.hex"
    path.write_bytes(hex_file((LINK, bytes(range(200))), (LINK + 0x200, b"calibration")))
    return path


@pytest.fixture
def signed(home: Home, firmware: Path) -> Path:
    path = firmware.with_name("app.img")
    assert run(home, "sign", firmware, *OPTIONS, "-o", path).exit_code == 0
    return path


@pytest.fixture
def pem(home: Home, tmp_path: Path) -> Path:
    path = tmp_path / "firmware.pem"
    path.write_bytes(hsm.store_of(home).signer("firmware").public_key.pem())
    return path


# --- sign ---


def test_sign_says_what_it_did(home: Home, firmware: Path) -> None:
    output = run(home, "sign", firmware, *OPTIONS, "-o", firmware.with_name("x.img")).output
    assert "signed app 1.4.0 for bms-m33, security counter 7" in output
    assert "Intel HEX, 523 bytes at 0x08010200" in output
    assert "0x080102c8 to 0x08010400 (312 bytes) read as erased flash" in output
    assert "pkcs11:token=cellward;object=firmware" in output


def test_sign_is_the_same_key_by_uri_and_by_role(home: Home, firmware: Path, signed: Path) -> None:
    facts = told(home, "sign", firmware, *OPTIONS, "--key", hsm.FIRMWARE, "-o", firmware.with_name("y.img"))
    assert facts["digest"] == image.decode(signed.read_bytes()).digest.hex()


@pytest.mark.parametrize("stage", ["app", "loader"])
def test_the_real_firmware_of_every_format(home: Home, tmp_path: Path, stage: str) -> None:
    for entry in sorted(APP.iterdir(), key=lambda path: path.name):
        if entry.name.startswith(f"{stage}-1.4.0"):
            facts = told(
                home, "sign", str(entry), *OPTIONS, "--stage", stage, "-o", tmp_path / f"{entry.name}.img"
            )
            assert facts["output"].startswith(str(tmp_path))


def test_imgtool_makes_the_same_image_of_the_same_file(
    home: Home, firmware: Path, signed: Path, pem: Path
) -> None:
    """A real token on one side, a key of the test's own on the other: all but key and signature is equal."""
    theirs = firmware.with_name("theirs.img")
    key = Key.make()
    ids = (str(UUID(bytes=BMS_M33.vendor_id)), str(UUID(bytes=BMS_M33.class_id(Stage.APP))))
    imgtool.run(
        *("sign", "--key", imgtool.write_key(firmware.parent, key), "--header-size", "0x200", "--pad-header"),
        *("--slot-size", "0x100000", "--version", "1.4.0", "--security-counter", "7"),
        *("--vid", ids[0], "--cid", ids[1], str(firmware), str(theirs)),
    )
    ours, reference = image.decode(signed.read_bytes()), image.decode(theirs.read_bytes())
    assert ours.data[: ours.signed_size] == reference.data[: reference.signed_size]
    assert "correctly validated" in imgtool.run("verify", "--key", str(pem), str(signed))
    with pytest.raises(imgtool.ImgtoolError):
        imgtool.run("verify", "--key", str(pem), str(theirs))


def test_openssl_verifies_the_image(signed: Path, pem: Path) -> None:
    decoded = image.decode(signed.read_bytes())
    body, signature = signed.with_name("body"), signed.with_name("signature")
    body.write_bytes(decoded.data[: decoded.signed_size])
    signature.write_bytes(decoded.find(image.Tlv.ECDSA) or b"")
    command = ["openssl", "dgst", "-sha256", "-verify", str(pem), "-signature", str(signature), str(body)]
    assert b"Verified OK" in subprocess.run(command, check=True, capture_output=True).stdout


BAD_INPUTS = {
    Code.FIRMWARE_EMPTY: b"",
    Code.FIRMWARE_FORMAT: hex_file((LINK, b"x" * 99))[:-40],
    Code.FIRMWARE_ADDRESS: hex_file((LINK + 4, b"x")),
    Code.FIRMWARE_GAP: hex_file((LINK, b"x"), (LINK + 0x8000, b"x")),
}


@pytest.mark.parametrize(("code", "data"), BAD_INPUTS.items())
def test_bad_firmware_leaves_the_old_output(home: Home, firmware: Path, code: Code, data: bytes) -> None:
    output = firmware.with_name("old.img")
    output.write_bytes(b"old")
    firmware.write_bytes(data)
    refused(code, home, "sign", firmware, *OPTIONS, "-o", output)
    assert output.read_bytes() == b"old"
    assert sorted(path.name for path in firmware.parent.iterdir()) == ["app.hex", "old.img"]


def test_fill_gaps(home: Home, firmware: Path) -> None:
    firmware.write_bytes(BAD_INPUTS[Code.FIRMWARE_GAP])
    told(home, "sign", firmware, *OPTIONS, "--fill-gaps", "-o", firmware.with_name("x.img"))


def test_bad_places(home: Home, firmware: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.img"
    assert refused(
        Code.FIRMWARE_UNREADABLE, home, "sign", tmp_path / "none", *OPTIONS, "-o", output
    ).found == ("no such file")
    refused(Code.FIRMWARE_UNREADABLE, home, "sign", tmp_path, *OPTIONS, "-o", output)
    refused(Code.STORAGE_MISSING, home, "sign", firmware, *OPTIONS, "-o", tmp_path / "no" / "x.img")
    refused(Code.STORAGE_FAILED, home, "sign", firmware, *OPTIONS, "-o", tmp_path)
    with (tmp_path / "huge.elf").open("wb") as file:
        file.truncate(129 * 1024 * 1024)
    refused(Code.FIRMWARE_TOO_LARGE, home, "sign", tmp_path / "huge.elf", *OPTIONS, "-o", output)
    (tmp_path / "app.bin").write_bytes(bytes(BMS_M33.app.size))
    error = refused(Code.FIRMWARE_TOO_LARGE, home, "sign", tmp_path / "app.bin", *OPTIONS, "-o", output)
    assert error.found.endswith(f"{0x200 + TLV_ROOM} bytes too many")
    assert not output.exists()


def test_a_full_disk(home: Home, firmware: Path) -> None:
    """As a limit on the size of files: the write stops in the middle, with the errno of its kind."""
    output = firmware.with_name("x.img")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (800, before[1]))
    try:
        refused(Code.STORAGE_FULL, home, "sign", firmware, *OPTIONS, "-o", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in firmware.parent.iterdir()] == ["app.hex"]


def test_a_version_or_counter_that_is_none(home: Home, firmware: Path) -> None:
    output = firmware.with_name("x.img")
    hardware = ("--hardware", "bms-m33", "-o", output)
    refused(Code.IMAGE_VERSION, home, "sign", firmware, "--version", "1.4", "--counter", "7", *hardware)
    refused(Code.IMAGE_COUNTER, home, "sign", firmware, "--version", "1.4.0", "--counter", "1025", *hardware)
    assert run(home, "sign", firmware, "--version", "1.4.0", "--counter", "x", *hardware).exit_code == 2


def test_keys_that_are_none(home: Home, firmware: Path) -> None:
    common = ("sign", firmware, *OPTIONS, "-o", firmware.with_name("x.img"), "--key")
    refused(Code.TOKEN_KEY_MISSING, home, *common, "pkcs11:token=cellward;object=nope")
    refused(Code.TOKEN_ABSENT, home, *common, "pkcs11:token=nope;object=firmware")
    refused(Code.TOKEN_AMBIGUOUS, home, *common, "pkcs11:token=cellward")
    refused(Code.TOKEN_URI, home, *common, f"{hsm.FIRMWARE}?pin-value=1234")
    refused(Code.KEY_FORMAT, home, *common, "firmware.pem")
    refused(Code.KEY_FORMAT, home, *common, "root")
    refused(Code.TOKEN_KEY_MISSING, home, *common, "firmware-2")
    refused(Code.TOKEN_ABSENT, Home(firmware.parent / "none"), *common, hsm.FIRMWARE)
    assert not (firmware.parent / "none").exists()


def test_extras_are_signed(home: Home, firmware: Path, pem: Path) -> None:
    output = firmware.with_name("x.img")
    extras = ("--boot-record", "BMS", "-d", "(1, 1.2.3)", "--custom-tlv", "0xa0", "mine")
    told(home, "sign", firmware, *OPTIONS, *extras, "-o", output)
    signed = image.decode(output.read_bytes())
    kinds = [entry.type for entry in signed.entries if entry.protected]
    assert kinds == [0x50, 0x60, 0x40, 0x74, 0x75, 0xA0]
    key = hsm.store_of(home).signer("firmware").public_key
    assert key.key_hash in (signed.find(image.Tlv.BOOT_RECORD) or b"")
    told(home, "verify", output, "--key", pem)
    shown = run(home, "show", output).output
    for said in ("image 1, 1.2.3 or later", "BMS", "the vendor's own"):
        assert said in shown, said
    refused(Code.IMAGE_TLV, home, "sign", firmware, *OPTIONS, "-d", "1", "-o", output)
    refused(Code.IMAGE_TLV, home, "sign", firmware, *OPTIONS, "--custom-tlv", "0x50", "", "-o", output)


@pytest.mark.parametrize("suffix", ["hex", "elf"])
@pytest.mark.parametrize("encrypt", [False, True])
def test_other_outputs_hold_the_same_image(
    home: Home, firmware: Path, pem: Path, suffix: str, encrypt: bool
) -> None:
    output = firmware.with_name(f"signed.{suffix}")
    options = [*OPTIONS, *(["--encrypt"] if encrypt else []), "-o", str(output)]
    facts = told(home, "sign", firmware, *options)
    assert f"at 0x{BMS_M33.active_base + BMS_M33.app.offset:08x}" in facts["output"]
    assert told(home, "verify", output, "--key", pem)["digest"] == facts["digest"]
    assert told(home, "show", output)["stated_digest"] == facts["digest"]
    moved = told(home, "sign", firmware, *options, "--hex-addr", "0x09000000")
    assert "at 0x09000000" in moved["output"]


OPENSSL = {
    "p256": ("-pkeyopt", "digest:sha256"),
    "rsa": (
        "-pkeyopt",
        "digest:sha256",
        *("-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:32"),
    ),
    "ed25519": ("-rawin",),
}
GENERATE = {
    "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
    "ed25519": ("ED25519",),
}


@pytest.mark.parametrize("algorithm", list(OPENSSL))
def test_a_signature_from_another_machine(home: Home, firmware: Path, algorithm: str) -> None:
    """In two steps, with a boot record, by openssl; imgtool's verify and ours take the image."""
    folder = firmware.parent
    secret, public, digest, signature = (folder / name for name in ("k.pem", "p.pem", "digest", "signature"))
    for command in (
        ["genpkey", "-algorithm", *GENERATE[algorithm], "-out", str(secret)],
        ["pkey", "-in", str(secret), "-pubout", "-out", str(public)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    common = ("sign", firmware, *OPTIONS, "--boot-record", "BMS", "--public-key", public)
    facts = told(home, *common, "--digest-out", digest)
    assert digest.read_bytes().hex() == facts["digest"]
    sign = ["pkeyutl", "-sign", "-inkey", secret, "-in", digest, "-out", signature, *OPENSSL[algorithm]]
    subprocess.run(["openssl", *map(str, sign)], check=True, capture_output=True)
    output = folder / "x.img"
    other = ("sign", firmware, *OPTIONS, "--boot-record", "BMX", "--public-key", public)
    refused(Code.IMAGE_SIGNATURE, home, *other, "--attach-signature", signature, "-o", output)
    assert not output.exists()
    assert told(home, *common, "--attach-signature", signature, "-o", output)["digest"] == facts["digest"]
    assert "correctly validated" in imgtool.run("verify", "--key", str(public), str(output))
    unchecked = told(home, "verify", output, "--key", public)["not_checked"]
    assert any("Ed25519" in point for point in unchecked) == (algorithm == "ed25519")
    named = ("verify", output, "--key", public, "--hardware", "bms-m33")
    if algorithm == "ed25519":  # no module of ours would take it
        refused(Code.IMAGE_NO_SIGNATURE, home, *named)
    else:
        told(home, *named)


def test_options_that_do_not_belong_together(home: Home, firmware: Path, pem: Path, tmp_path: Path) -> None:
    out, digest = ("-o", tmp_path / "x.img"), ("--digest-out", tmp_path / "digest")
    attach, public = ("--attach-signature", pem), ("--public-key", pem)
    for options in (
        (),
        (*out, *public),
        digest,
        (*digest, *public, *out),
        (*digest, *public, "--key", "firmware"),
        (*attach, *public),
        (*attach, *out),
        (*attach, *public, *out, "--key", "firmware"),
        (*attach, *public, *out, *digest),
    ):
        assert run(home, "sign", firmware, *OPTIONS, *options).exit_code == 2, options
    assert not (tmp_path / "x.img").exists()
    assert not (tmp_path / "digest").exists()


def test_a_key_wrapped_into_the_file_for_one_device(home: Home, firmware: Path, pem: Path) -> None:
    published, output = firmware.with_name("e.img"), firmware.with_name("w.img")
    told(home, "sign", firmware, *OPTIONS, "--encrypt", "-o", published)
    device = Key.make()
    public = Path(imgtool.write_public_key(firmware.parent, device.private.public_key()))
    assert run(home, "wrap", published, "--for", public, "-o", output).exit_code == 0
    wrapped = image.decode(output.read_bytes())
    scalar = device.private.private_numbers().private_value.to_bytes(32, "big")
    key = encryption.unwrap(wrapped.find(image.Tlv.ENC_EC256) or b"", scalar)
    assert image.decode(encryption.decrypt(published.read_bytes(), key)).digest == wrapped.find(
        image.Tlv.SHA256
    )
    told(home, "verify", output, "--key", pem)
    refused(Code.IMAGE_ENCRYPTION, home, "wrap", output, "--for", public, "-o", output)
    refused(Code.IMAGE_ENCRYPTION, home, "wrap", firmware.with_name("w.img"), "--for", public, "-o", output)


# --- show ---


def test_show(home: Home, signed: Path) -> None:
    output = run(home, "show", signed).output
    for said in (
        "1.4.0",
        "SECURITY_COUNTER",
        "bms-m33/app",
        "cellward.example",
        "PUBKEY",
        "Nothing was verified",
    ):
        assert said in output, said


def test_show_as_json_has_every_byte(home: Home, signed: Path) -> None:
    facts = told(home, "show", signed)
    assert facts["digest_matches"] is True
    assert facts["counter"] == 7
    decoded = image.decode(signed.read_bytes())
    assert [bytes.fromhex(tlv["value"]) for tlv in facts["tlvs"]] == [
        entry.value for entry in decoded.entries
    ]


def test_show_says_when_the_digest_is_another(home: Home, signed: Path) -> None:
    data = bytearray(signed.read_bytes())
    data[0x200] ^= 1
    signed.write_bytes(data)
    assert told(home, "show", signed)["digest_matches"] is False
    assert "but the image states" in run(home, "show", signed).output


def test_show_prints_no_markup_of_others(home: Home, signed: Path) -> None:
    evil = signed.with_name("[red]x.img")
    shutil.copy(signed, evil)
    assert "[red]x" in run(home, "show", evil).output.replace("\n", "")


@pytest.mark.parametrize("data", [b"", b"\x7fELF" + bytes(60), bytes(100)])
def test_show_of_no_image(home: Home, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    error = run(home, "show", tmp_path / "x").exception
    assert isinstance(error, CellwardError)
    assert error.code.startswith(("image.", "firmware.format"))


# --- verify ---


def test_verify_without_a_key_verifies_nothing(home: Home, signed: Path) -> None:
    refused(Code.IMAGE_NO_KEY_GIVEN, home, "verify", signed)
    refused(Code.IMAGE_NO_KEY_GIVEN, home, "verify", signed, "--counter", "1", "--hardware", "bms-m33")


def test_verify_with_pem_and_uri(home: Home, signed: Path, pem: Path) -> None:
    for key in (pem, Path(hsm.FIRMWARE)):
        assert told(home, "verify", signed, "--key", key)["verified"] is True
    output = run(home, "verify", signed, "--key", pem).output
    assert "verified: image 1.4.0" in output
    for point in ("security counter", "hardware and stage", "revocation"):
        assert f"not checked  {point}" in output


def test_verify_with_everything_given(home: Home, signed: Path, pem: Path) -> None:
    facts = told(home, "verify", signed, "--key", pem, "--counter", "7", "--hardware", "bms-m33")
    assert len(facts["not_checked"]) == 1


def test_verify_refuses(home: Home, signed: Path, pem: Path) -> None:
    given = ("verify", signed, "--key", pem)
    refused(Code.IMAGE_COUNTER, home, *given, "--counter", "8")
    refused(Code.IMAGE_HARDWARE, home, *given, "--hardware", "bms-m33-18s")
    refused(Code.IMAGE_HARDWARE, home, *given, "--hardware", "bms-m33", "--stage", "loader")
    refused(Code.IMAGE_KEY_UNKNOWN, home, "verify", signed, "--key", f"{hsm.TOKEN};object=root")
    refused(Code.KEY_FORMAT, home, "verify", signed, "--key", signed)
    refused(Code.STORAGE_MISSING, home, "verify", signed, "--key", "none.pem")


def test_verify_refuses_every_other_bit(home: Home, signed: Path, pem: Path) -> None:
    data = signed.read_bytes()
    for position in (0x1FF, 0x200, len(data) - 1):
        flipped = bytearray(data)
        flipped[position] ^= 0x10
        signed.write_bytes(flipped)
        error = run(home, "verify", signed, "--key", pem).exception
        assert isinstance(error, CellwardError), position


# --- as a process ---


def test_signing_imports_nothing_it_does_not_need(home: Home, firmware: Path) -> None:
    """A third of the time of `image sign` was imports (bench/image_sign.py)."""
    program = (
        "import sys, os; from cellward.cli import main; main._leave = lambda status: print(*sys.modules);"
        "main.run()"
    )
    raw = firmware.with_suffix(".bin")
    raw.write_bytes(bytes(range(200)))
    command = [sys.executable, "-c", program, "--data", str(home.root), "image", "sign", str(raw)]
    path = os.pathsep.join(filter(None, [str(Path("src").absolute()), os.environ.get("PYTHONPATH")]))
    output = subprocess.run(
        [*command, *OPTIONS, "-o", str(raw.with_suffix(".img"))],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ).stdout
    loaded = set(output.splitlines()[-1].split())
    unwanted = {"rich", "tuf", "securesystemslib", "httpx", "asn1crypto", "bincopy", "elftools", "sqlite3"}
    unwanted |= {"ssl", "json", "tempfile", "cryptography.hazmat.primitives.serialization"}
    unwanted |= {f"cryptography.hazmat.primitives.asymmetric.{name}" for name in ("rsa", "padding")}
    assert not loaded & unwanted
    assert "pkcs11" in loaded
