"""Attacks on a release in its folder, over real tokens and the module's own verifier.

After each refusal folder and data directory are byte for byte what they were, and the release still goes out.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellward.config import Home
from cellward.core.errors import Code
from cellward.core.slots import Stage
from tests.support import hsm
from tests.support.maker import program
from tests.support.release import sbom_of
from tests.support.running import House


def files(folder: Path) -> dict[str, bytes]:
    """But the token's own: SoftHSM notes each login in it."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "tokens" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, Path]:
    """A release that may go out, and one with the same name that nobody approved."""
    desk = tmp_path_factory.mktemp("desk")
    house = House(desk / "data")
    house.run("keys", "init")
    house.run("repo", "init")
    house.run("keys", "export", "release", "-o", "release.pem")
    ada = House(hsm.make_home(tmp_path_factory.mktemp("ada") / "data", "approval").root)
    key = hsm.store_of(Home(ada.data)).find("approval")
    assert key is not None
    (desk / "ada.pem").write_bytes(key.public_key.pem())
    (desk / "app.bin").write_bytes(program(bytes(range(256)), "bms-m33", Stage.APP))
    sign = ["image", "sign", "app.bin", "--hardware", "bms-m33", "--version", "1.3.0", "--counter", "6"]
    house.run(*sign, "-o", "app.img")
    (desk / "notes.md").write_text("What is new.")
    (desk / "sbom.json").write_bytes(sbom_of((desk / "app.img").read_bytes()))
    for name in ("R1", "R2"):
        beside = ["--image", "app.img", "--notes", "notes.md", "--sbom", "sbom.json", "--no-safety-impact"]
        house.run("release", "create", name, *beside, "-o", name)
        approve = ["release", "approve", str(desk / name), "--key", f"{hsm.TOKEN};object=approval"]
        ada.run(*approve, "--name", "Ada", "--release-key", str(desk / "release.pem"))
    return house, desk


def edit_payload(folder: Path, of: str = "release.json") -> None:
    path = folder / of
    tree = json.loads(path.read_bytes())
    tree["payload"] = ("A" if tree["payload"][40] != "A" else "B").join(
        (tree["payload"][:40], tree["payload"][41:])
    )
    path.write_bytes(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def strip(folder: Path) -> None:
    tree = json.loads((folder / "release.json").read_bytes())
    tree["signatures"] = []
    (folder / "release.json").write_bytes(
        json.dumps(tree, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    )


def flip(folder: Path) -> None:
    data = bytearray((folder / "app.img").read_bytes())
    data[0x300] ^= 1
    (folder / "app.img").write_bytes(data)


def take_approvals(folder: Path) -> None:
    shutil.rmtree(folder / "approvals")


def others_approvals(folder: Path) -> None:
    shutil.rmtree(folder / "approvals")
    shutil.copytree(folder.parent / "R2" / "approvals", folder / "approvals")


ATTACKS: list[tuple[Callable[[Path], object], set[Code]]] = [
    (edit_payload, {Code.DOCUMENT_SIGNATURE, Code.METADATA_FORMAT}),
    (strip, {Code.DOCUMENT_SIGNATURE}),
    (flip, {Code.RELEASE_FILE}),
    (lambda folder: (folder / "sbom.json").unlink(), {Code.RELEASE_PART}),
    (lambda folder: (folder / "notes.md").write_text("Nothing."), {Code.RELEASE_FILE}),
    (take_approvals, {Code.RELEASE_APPROVAL}),
    (others_approvals, {Code.RELEASE_OTHER}),
    (lambda folder: (folder / "withdrawal.json").write_text("{}"), {Code.METADATA_FORMAT}),
]


@pytest.mark.parametrize(("attack", "codes"), ATTACKS)
def test_nothing_goes_out_and_nothing_changes(
    made: tuple[House, Path], attack: Callable[[Path], object], codes: set[Code]
) -> None:
    house, desk = made
    folder = desk / "attacked"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(desk / "R1", folder)
    attack(folder)
    before = files(house.data), files(folder)
    publish = "repo", "publish", "--release", str(folder), "--approver", str(desk / "ada.pem")
    assert house.refused(*publish) in codes
    assert (files(house.data), files(folder)) == before
    assert house.refused("repo", "assign", "PACK-1", "bms-m33/app-1.3.0.img") is Code.TARGET_MISSING


def test_the_release_itself_goes_out(made: tuple[House, Path]) -> None:
    house, _ = made
    publish = "repo", "publish", "--release", "R1", "--approver", "ada.pem"
    assert house.run(*publish) == "published bms-m33/app-1.3.0.img\n"
    assert house.run(*publish) == "published bms-m33/app-1.3.0.img\n"
