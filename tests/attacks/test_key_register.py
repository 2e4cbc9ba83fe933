"""The key register attacked through the commands that go by it, with real tokens: after each refusal all is
as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cellward.core import register
from cellward.core import release as releases
from cellward.core.errors import Code
from cellward.core.keys import KeyStage, Role
from cellward.core.register import Entry, State, Status
from cellward.sign.ceremony import custody
from cellward.sign.documents import sign_document
from tests.support import hsm
from tests.support.holders import DAY, NOW, World, at_version_one, make_world, refuses
from tests.support.maker import Keys, signed_image
from tests.support.release import sbom_of

SIGN = ("--version", "1.0.0", "--counter", "1", "--hardware", "bms-m33")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(tokens: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    with at_version_one(tokens):
        yield tokens


# --- what a key may sign ---

REVOKED = Status(State.REVOKED, NOW - DAY, "lost")


@pytest.mark.parametrize(
    ("change", "arguments", "code"),
    [
        ({"status": REVOKED}, ("--key", "firmware"), Code.KEY_REVOKED),
        ({"status": Status(State.RETIRED, NOW - DAY)}, ("--key", "firmware"), Code.KEY_RETIRED),
        ({}, ("--key", "firmware-dev"), Code.KEY_STAGE),
        ({}, ("--key", "firmware-dev", "--for", "production"), Code.KEY_STAGE),
        ({}, ("--key", "firmware", "--for", "development"), Code.KEY_STAGE),
        ({}, ("--key", "pkcs11:token=cellward;object=release"), Code.KEY_PURPOSE),
        ({}, ("--key", "pkcs11:token=cellward;object=root"), Code.KEY_UNKNOWN),
        ({}, (), Code.REGISTER_AMBIGUOUS),
    ],
)
def test_a_key_that_may_not_sign(
    world: World, change: dict[str, object], arguments: tuple[str, ...], code: Code
) -> None:
    if change:
        world.rules({"firmware": change})
    Path("app.bin").write_bytes(bytes(100))
    attack = "image", "sign", "app.bin", *SIGN, *arguments, "-o", "app.img"
    refuses(world, code, world.run, "maker", *attack)
    assert not Path("app.img").exists()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, Code.KEY_EXPIRED),
        ({"not_before": NOW + DAY}, Code.KEY_NOT_YET),
    ],
)
def test_a_key_outside_its_time(world: World, values: dict[str, object], code: Code) -> None:
    """In a first version that says so: no later one may move a key's beginning."""
    entries = [renamed(e, "firmware", values) for e in world.newest.register.entries]
    _first(world, register.first(entries, 2, world.newest.register.issued))
    Path("app.bin").write_bytes(bytes(100))
    attack = "image", "sign", "app.bin", *SIGN, "--key", "firmware", "-o", "app.img"
    refuses(world, code, world.run, "maker", *attack)


def test_a_clock_from_before_the_register(world: World) -> None:
    """A copied register from the future: whoever's clock is wrong, nothing is signed."""
    _first(world, register.first(world.newest.register.entries, 2, NOW + DAY))
    Path("app.bin").write_bytes(bytes(100))
    attack = "image", "sign", "app.bin", *SIGN, "--key", "firmware", "-o", "app.img"
    refuses(world, Code.REGISTER_CLOCK, world.run, "maker", *attack)


def renamed(entry: Entry, name: str, values: dict[str, object]) -> Entry:
    return replace(entry, **values) if entry.name == name else entry  # type: ignore[arg-type]


def _first(world: World, draft: register.Register) -> None:
    line = world.signed(draft, "ada", "ben").splitlines(keepends=True)[0]
    world.homes["maker"].key_register.write_bytes(line)


def test_an_older_register_is_not_put_back(world: World) -> None:
    """A revoked key would sign again; without any register, every key."""
    home = world.homes["maker"]
    first = home.key_register.read_bytes()
    world.rules({"firmware": {"status": REVOKED}})
    Path("app.bin").write_bytes(bytes(100))
    attack = "image", "sign", "app.bin", *SIGN, "--key", "firmware", "-o", "app.img"
    home.key_register.write_bytes(first)
    refuses(world, Code.REGISTER_VERSION, world.run, "maker", *attack)
    home.key_register.unlink()
    refuses(world, Code.REGISTER_VERSION, world.run, "maker", *attack)
    home.key_register.write_bytes(first)
    world.finish("rules.jsonl")  # the advice helps
    refuses(world, Code.KEY_REVOKED, world.run, "maker", *attack)


def test_a_register_that_somebody_wrote(world: World) -> None:
    home = world.homes["maker"]
    held = home.key_register.read_bytes()
    Path("app.bin").write_bytes(bytes(100))
    attack = "image", "sign", "app.bin", *SIGN, "--key", "firmware", "-o", "app.img"
    first = world.newest.register
    alone = world.signed(first, "ada").splitlines(keepends=True)[0]
    for data, code in (
        (register.unsigned(first).data, Code.REGISTER_QUORUM),
        (alone, Code.REGISTER_QUORUM),
        (held + held, Code.REGISTER_VERSION),
        (held[:-1], Code.METADATA_FORMAT),
        (b"", Code.METADATA_FORMAT),
    ):
        home.key_register.write_bytes(data)
        refuses(world, code, world.run, "maker", *attack)


# --- releases by the register ---


@pytest.fixture
def release(world: World) -> World:
    image = signed_image(Keys())
    Path("app.img").write_bytes(image)
    Path("notes.md").write_text("What is new.")
    Path("sbom.json").write_bytes(sbom_of(image))
    parts = "--image", "app.img", "--notes", "notes.md", "--sbom", "sbom.json", "--no-safety-impact"
    world.rules({"release-2": {"status": REVOKED}})
    world.run("maker", "release", "create", "R1", *parts, "-o", "r1")
    for name, key in (
        ("maker", "release"),
        ("maker", "release-2"),
        ("maker", "approval"),
        ("dora", "approval"),
    ):
        world.keys(name, "export", key, "-o", f"{name}-{key}.pem")
    return world


def approve(world: World, who: str, *more: str) -> None:
    words = (
        "--key",
        "pkcs11:token=cellward;object=approval",
        "--name",
        who,
        "--release-key",
        "maker-release.pem",
    )
    world.run(who, "release", "approve", "r1", *words, *more)


PUBLISH = "repo", "publish", "--release", "r1"


def test_an_approval_is_by_who_may(release: World) -> None:
    """Nobody yet; then by Dora: only the images are left to be refused, whose key nobody knows."""
    refuses(release, Code.RELEASE_APPROVAL, release.run, "maker", *PUBLISH)
    for pem, code in (("maker-release", Code.KEY_PURPOSE), ("maker-approval", Code.KEY_UNKNOWN)):
        refuses(release, code, release.run, "maker", *PUBLISH, "--approver", f"{pem}.pem")
    approve(release, "dora")
    refuses(release, Code.KEY_UNKNOWN, release.run, "maker", *PUBLISH)


def test_images_past_those_who_approve(release: World) -> None:
    error = refuses(release, Code.RELEASE_APPROVAL, release.run, "maker", "repo", "publish", "app.img")
    assert "--release" in error.advice


def test_an_approval_out_of_the_makers_own_token(release: World) -> None:
    """Another key, in the register, for approvals: but of the token that made the release."""
    refuses(release, Code.KEY_UNKNOWN, approve, release, "maker")
    held = release.newest
    store = hsm.store_of(release.homes["maker"])
    stored = store.find("approval")
    assert stored is not None
    until = NOW + 9 * DAY
    own = Entry(
        "Max", stored.public_key, Role.APPROVAL, KeyStage.PRODUCTION, NOW - DAY, until, custody(store, stored)
    )
    draft = register.added(held, [own], max(NOW, held.register.issued))
    chain = release.homes["maker"].key_register.read_bytes()
    Path("own.jsonl").write_bytes(chain + release.signed(draft, "ada", "ben"))
    release.finish("own.jsonl")
    refuses(release, Code.RELEASE_APPROVAL, approve, release, "maker")
    made = releases.decode(Path("r1/release.json").read_bytes())
    document = sign_document(releases.approval(made, "Max", "", NOW), store.signer("approval"))
    approvals = Path("r1/approvals")
    approvals.mkdir()
    (approvals / f"{stored.public_key.fingerprint}.json").write_bytes(document.encode())
    error = refuses(release, Code.RELEASE_APPROVAL, release.run, "maker", *PUBLISH)
    assert "by who made it" in error.found


def test_a_release_by_a_key_that_is_out_of_use(release: World) -> None:
    approve(release, "dora")
    release.run("maker", "release", "show", "r1")
    refuses(
        release,
        Code.KEY_REVOKED,
        lambda: release.run("maker", *PUBLISH, "--release-key", "maker-release-2.pem"),
    )
    other = "--release-key", "dora-approval.pem"
    refuses(release, Code.KEY_PURPOSE, release.run, "maker", "release", "check", "r1", *other)
    again = "release", "withdraw", "r1", "--reason", "x", "--key", "pkcs11:token=cellward;object=release-2"
    refuses(release, Code.KEY_REVOKED, release.run, "maker", *again)


def test_a_release_of_a_key_that_was_revoked_since(release: World) -> None:
    """It goes out no more; but it can still be looked at and taken back, by the key that came after."""
    approve(release, "dora")
    held = release.newest
    entries = tuple(renamed(e, "release", {"status": REVOKED}) for e in held.register.entries)
    store = hsm.store_of(release.homes["maker"])
    key = store.create("release-3").public_key
    new = Entry("release-3", key, Role.RELEASE, KeyStage.PRODUCTION, NOW - DAY, NOW + DAY)
    merged = tuple(sorted((*entries, new), key=lambda entry: entry.fingerprint))
    issued = max(NOW, held.register.issued)
    draft = replace(held.register, version=3, previous=held.sha256, entries=merged, issued=issued)
    chain = release.homes["maker"].key_register.read_bytes()
    Path("since.jsonl").write_bytes(chain + release.signed(draft, "ada", "ben"))
    release.finish("since.jsonl")
    refuses(release, Code.DOCUMENT_SIGNATURE, release.run, "maker", *PUBLISH)
    release.run("maker", "release", "show", "r1")
    release.run("maker", "release", "withdraw", "r1", "--reason", "the key was lost")
    assert Path("r1/withdrawal.json").exists()
