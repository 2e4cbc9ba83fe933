"""The key ceremony attacked through its commands, with real tokens: after each refusal all is as it was.

Two witnesses that are not ours: `openssl` verifies a version's signatures over a PAE that is built here by
hand, and `pkcs11-tool` reads the attributes that the transcript has signed.
"""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cellward.adapters.pkcs11 import softhsm
from cellward.config import Home
from cellward.core import ceremony, envelope, register
from cellward.core.errors import CellwardError, Code
from cellward.sign.documents import sign_document
from tests.support import hsm
from tests.support.holders import DAY, HOLDERS, NOW, World, at_version_one, drafted, make_world, refuses


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(tokens: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    with at_version_one(tokens):
        yield tokens


# --- holders ---


def test_another_draft_than_the_one_agreed_on(world: World) -> None:
    agreed = drafted(world.draft()).draft.fingerprint
    world.draft("other.jsonl", "firmware-dev")
    for fingerprint in (agreed, agreed[:16], "0" * 64):
        refuses(world, Code.CEREMONY_FINGERPRINT, world.sign, "ada", "other.jsonl", fingerprint)
    for short in (agreed[:15], "zz", agreed + "0"):
        refuses(world, Code.CEREMONY_FINGERPRINT, world.sign, "ada", "draft.jsonl", short)


def test_a_draft_that_was_edited(world: World) -> None:
    """Somebody on its way lowers the threshold; somebody else changes a signature."""
    first = world.newest
    draft = drafted(world.draft()).draft
    tree = json.loads(draft.envelope.payload)
    tree["root"]["threshold"] = 1
    Path("edited.jsonl").write_bytes(first.data + envelope.make(register.KIND, tree).encode())
    refuses(world, Code.CEREMONY_FINGERPRINT, world.sign, "ada", "edited.jsonl", draft.fingerprint)
    for name in ("ada", "ben"):
        world.sign(name, "draft.jsonl")
    at = drafted("draft.jsonl")
    good, other = at.draft.envelope.signatures
    swapped = replace(at.draft.envelope, signatures=(replace(good, value=other.value), other))
    Path("swapped.jsonl").write_bytes(first.data + swapped.encode() + at.transcript)
    refuses(world, Code.DOCUMENT_SIGNATURE, world.finish, "swapped.jsonl")
    refuses(world, Code.DOCUMENT_SIGNATURE, world.sign, "cem", "swapped.jsonl", draft.fingerprint)


def test_who_is_no_holder(world: World) -> None:
    world.draft()
    for name in ("eve", "maker"):
        refuses(world, Code.CEREMONY_HOLDER, world.sign, name, "draft.jsonl")


def test_one_holder_twice_is_not_two(world: World) -> None:
    world.draft()
    refuses(world, Code.REGISTER_QUORUM, world.finish, "draft.jsonl")
    for _ in range(2):
        world.sign("ada", "draft.jsonl")
    refuses(world, Code.REGISTER_QUORUM, world.finish, "draft.jsonl")
    world.sign("cem", "draft.jsonl")
    world.finish("draft.jsonl")
    assert world.newest.register.version == 2


def test_a_register_of_somebody_else(world: World) -> None:
    """The same holders once agreed on another one: it does not take this one's place."""
    roots = [f"{name}={world.folder / name}.json" for name in HOLDERS]
    words = [word for root in roots for word in ("--root", root)]
    world.keys("eve", "ceremony", "begin", *words, "--threshold", "2", "--without-token", "-o", "other.jsonl")
    held = world.homes["maker"].key_register.read_bytes()
    world.homes["ada"].key_register.write_bytes(held)  # her copy
    refuses(world, Code.REGISTER_VERSION, world.sign, "ada", "other.jsonl")
    for name in ("ben", "cem"):  # they hold none
        world.sign(name, "other.jsonl")
    refuses(world, Code.REGISTER_VERSION, world.finish, "other.jsonl")


def test_two_at_once(world: World) -> None:
    one, two = world.draft("one.jsonl"), world.draft("two.jsonl", "firmware-dev")
    for file in (one, two):
        for name in ("ada", "ben"):
            world.sign(name, file)
    world.finish(one)
    refuses(world, Code.REGISTER_VERSION, world.finish, two)
    assert not world.newest.register.named("time").active
    assert world.newest.register.named("firmware-dev").active
    before = world.state()
    world.finish(one)  # again is once
    assert world.state() == before
    third = world.draft("three.jsonl", "firmware-dev")
    for name in ("ada", "cem"):
        world.sign(name, third)
    world.finish(third)
    refuses(world, Code.REGISTER_VERSION, world.finish, one)
    refuses(world, Code.REGISTER_VERSION, world.finish, str(world.folder / "first.jsonl"))


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data[1:],
        lambda data: data + b"x",
        lambda data: data + data,
        lambda data: b"\0" * 5000,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"".join(data.splitlines(keepends=True)[::-1]),
        lambda data: b"".join(data.splitlines(keepends=True)[1:]),
    ],
)
def test_a_file_that_is_none(world: World, cut: Callable[[bytes], bytes]) -> None:
    world.draft()
    world.sign("ada", "draft.jsonl")
    fingerprint = drafted("draft.jsonl").draft.fingerprint
    Path("bad.jsonl").write_bytes(cut(Path("draft.jsonl").read_bytes()))
    before = world.state()
    with pytest.raises(CellwardError):
        world.sign("ben", "bad.jsonl", fingerprint)
    with pytest.raises(CellwardError):
        world.finish("bad.jsonl")
    assert world.state() == before


def test_a_file_that_is_not_there_or_too_large(world: World) -> None:
    Path("folder").mkdir()
    with Path("huge.jsonl").open("wb") as file:
        file.truncate(register.MAX_FILE + 1)
    for name, code in (
        ("none", Code.STORAGE_MISSING),
        ("folder", Code.STORAGE_FAILED),
        ("huge.jsonl", Code.REQUEST_TOO_LARGE),
    ):
        with pytest.raises(CellwardError) as error:
            world.finish(name)
        assert error.value.code is code


def test_nothing_half_published(world: World) -> None:
    """The transcript cannot be written: the register stays. Then it can, and the same file does it."""
    world.draft()
    for name in ("ada", "ben"):
        world.sign(name, "draft.jsonl")
    folder = world.homes["maker"].ceremonies
    held = (folder / "1.jsonl").read_bytes()
    (folder / "1.jsonl").unlink()
    folder.rmdir()
    folder.write_bytes(b"")
    refuses(world, Code.STORAGE_FAILED, world.finish, "draft.jsonl")
    folder.unlink()
    folder.mkdir()
    (folder / "1.jsonl").write_bytes(held)
    assert world.newest.register.version == 1
    world.finish("draft.jsonl")
    assert world.newest.register.version == 2


def test_a_draft_from_the_future(world: World) -> None:
    """By a clock that is ahead: no key could sign until then, and no version could mend it."""
    first = world.newest
    later = NOW + DAY
    draft = replace(first.register, version=2, previous=first.sha256, issued=later)
    Path("later.jsonl").write_bytes(first.data + register.unsigned(draft).data)
    refuses(world, Code.REGISTER_CLOCK, world.sign, "ada", "later.jsonl")
    Path("signed.jsonl").write_bytes(first.data + world.signed(draft, "ada", "ben"))
    refuses(world, Code.REGISTER_CLOCK, world.finish, "signed.jsonl")


def test_a_record_of_a_key_that_was_outside(world: World) -> None:
    """A holder's own program signs what `sign` would not."""
    first = world.newest
    draft = replace(first.register, version=2, previous=first.sha256, issued=first.register.issued)
    at = ceremony.decode(first.data + world.signed(draft, "ada", "ben"))
    record = at.records[0].record
    loose = replace(record.custody, attributes=replace(record.custody.attributes, never_extractable=False))
    store = hsm.store_of(world.homes[record.holder])
    bad = sign_document(replace(record, custody=loose).envelope(), store.signer("root")).encode()
    Path("loose.jsonl").write_bytes(at.chain + bad + at.records[1].data)
    refuses(world, Code.CEREMONY_ATTRIBUTES, world.finish, "loose.jsonl")


def test_a_key_that_came_from_outside(world: World, tmp_path: Path) -> None:
    """A key file, imported into a token: the token itself says so, and it becomes no root key."""
    home = hsm.make_home(tmp_path / "mallory")
    pem = tmp_path / "key.pem"
    made = "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(pem)
    subprocess.run(made, check=True, capture_output=True)
    with hsm.environment(SOFTHSM2_CONF=str(home.softhsm_config)):
        command = [
            "softhsm2-util",
            "--import",
            str(pem),
            "--token",
            "cellward",
            "--label",
            "root",
            "--id",
            "01",
        ]
        subprocess.run([*command, "--pin", home.pin.read_text().strip()], check=True, capture_output=True)
    root = "Mallory=pkcs11:token=cellward;object=root"
    world.homes["mallory"] = home
    try:
        begin = "ceremony", "begin", "--root", root, "--without-token", "-o", "mallory.jsonl"
        refuses(world, Code.CEREMONY_ATTRIBUTES, world.keys, "mallory", *begin)
        assert not Path("mallory.jsonl").exists()
    finally:
        del world.homes["mallory"]


def test_two_root_keys_of_one_token(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of two, and one person: whoever reads the draft is told."""
    hsm.store_of(world.homes["eve"]).create("root-2")
    uri = "pkcs11:token=cellward;object="
    roots = "--root", f"Eve={uri}root", "--root", f"Mallory={uri}root-2"
    world.keys("eve", "ceremony", "begin", *roots, "--without-token", "-o", "two.jsonl")
    assert "careful: " in capsys.readouterr().out
    world.keys("eve", "ceremony", "show", str(world.folder / "first.jsonl"))
    assert "careful: " not in capsys.readouterr().out


# --- witnesses ---


def test_openssl_verifies_the_register(world: World) -> None:
    tree = json.loads(world.homes["maker"].key_register.read_bytes())
    kind, payload = tree["payloadType"].encode(), base64.b64decode(tree["payload"])
    signed = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    pems = {}
    for name in HOLDERS:
        world.keys(name, "export", "root", "-o", f"{name}.pem")
        stored = hsm.store_of(world.homes[name]).find("root")
        assert stored is not None
        pems[stored.public_key.fingerprint] = f"{name}.pem"
    assert len(tree["signatures"]) == 2
    for signature in tree["signatures"]:
        Path("sig").write_bytes(base64.b64decode(signature["sig"]))
        for data, good in ((signed, True), (signed + b" ", False)):
            Path("pae").write_bytes(data)
            verify = f"openssl dgst -sha256 -verify {pems[signature['keyid']]} -signature sig pae"
            done = subprocess.run(verify.split(), check=False, capture_output=True)
            assert (done.returncode == 0) is good


def tool(home: Home, arguments: str) -> str:
    command = ["pkcs11-tool", "--module", str(softhsm.library()), *arguments.split()]
    with hsm.environment(SOFTHSM2_CONF=str(home.softhsm_config), PIN=home.pin.read_text().strip()):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_pkcs11_tool_says_what_the_transcript_says(world: World) -> None:
    chain = world.homes["maker"].key_register.read_bytes()
    transcript = (world.homes["maker"].ceremonies / "1.jsonl").read_bytes()
    for each in ceremony.decode(chain + transcript).finished().records:
        home = world.homes[each.record.holder]
        login = "--token-label cellward --login --pin env:PIN --list-objects --type privkey"
        access = next(line for line in tool(home, login).splitlines() if "Access:" in line)
        said = {word.strip() for word in access.split(":")[1].split(",")}
        assert {"sensitive", "always sensitive", "never extractable", "local"} <= said
        assert each.record.custody.attributes.confined_from_birth
        assert each.record.custody.token.serial in tool(home, "--list-slots")
