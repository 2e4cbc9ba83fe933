"""A release at the gate: each check has a release that only this check refuses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from cellward.core import release as releases
from cellward.core.errors import CellwardError, Code, PolicyRefused, Unavailable
from cellward.core.image import Version, build, decode
from cellward.core.image.encryption import encrypt
from cellward.core.image.protected import Dependency, Extras
from cellward.core.release import CALIBRATION, File, Part, Requirement
from cellward.core.slots import HARDWARE, Stage
from cellward.publish.releases import Folder, ReleaseGate, check_release, open_release
from cellward.sign.release import withdraw
from tests.fakes.store import MemoryStore
from tests.support.hsm import code_of
from tests.support.maker import NOW, Hand, Keys, Maker, program, signed_image
from tests.support.release import House, everything, part_of, sbom_of, unsigned

LOADER = Stage.LOADER


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest.fixture
def house(keys: Keys) -> House:
    return House(Maker(keys).init())


def refused(house: House, folder: Folder) -> Code:
    """And nothing is published, nothing recorded, the folder is what it was."""
    before, beside = house.state(), everything(folder)
    with pytest.raises(CellwardError) as error:
        house.publish(folder)
    assert house.state() == before
    assert everything(folder) == beside
    assert "\n" not in str(error.value)
    return code_of(error)


def take_back(house: House, folder: Folder, reason: str = "it does not charge") -> None:
    of = folder.release([house.hand.public_key])
    trusted = [house.hand.public_key]
    house.released.withdraw(of, folder, trusted, lambda: withdraw(of, trusted, house.hand, reason, NOW))


# --- what goes out ---


def test_a_release_goes_out(house: House) -> None:
    app, loader = signed_image(house.keys), signed_image(house.keys, stage=LOADER)
    folder = house.folder(loader, app, requires=[Requirement("bms-m33", "app", "loader", Version(1, 4, 0))])
    targets = house.publish(folder)
    assert [target.name for target in targets] == ["bms-m33/loader-1.4.0.img", "bms-m33/app-1.4.0.img"]
    assert house.maker.images.targets() == tuple(sorted(targets, key=lambda t: t.name))
    (recorded,) = house.released.all()
    assert recorded == folder.release([house.hand.public_key])
    assert f"{recorded.id}/{releases.approval_file(house.ada.public_key)}" in house.record.names()
    before = house.state()
    assert house.publish(folder) == targets
    assert house.state() == before


def test_for_several_boards_each_judged_by_itself(house: House) -> None:
    both = [signed_image(house.keys, hardware=board) for board in ("bms-m33", "bms-m33-18s")]
    assert len(house.publish(house.folder(*both))) == 2


def test_an_encrypted_image_where_its_content_key_is(house: House) -> None:
    key = bytes(range(16))
    plain = signed_image(house.keys, encrypted=True)
    data = encrypt(plain, key)
    folder = house.folder(data, sbom=sbom_of(plain))
    assert refused(house, folder) is Code.IMAGE_ENCRYPTION
    house.content_key = key
    (target,) = house.publish(folder)
    assert target.plain_sha256


def test_the_sbom_may_hash_the_payload_before_it_was_filled_up(house: House) -> None:
    plain = signed_image(house.keys, encrypted=True, payload=b"firmware" * 16 + b"odd")
    padded = decode(plain).payload
    house.content_key = bytes(range(16))
    data = encrypt(plain, house.content_key)
    cut = padded.rstrip(b"\0")
    assert len(cut) < len(padded)
    assert house.publish(house.folder(data, sbom=sbom_of(cut)))
    other = house.folder(data, sbom=sbom_of(cut[:-1]))
    assert refused(house, other) is Code.RELEASE_SBOM


# --- 1 files ---


def test_a_swapped_a_missing_and_a_larger_file(house: House) -> None:
    for name, data in (("image-0.img", signed_image(house.keys, "1.4.1")), ("notes.md", b"Nothing to see.")):
        folder = house.folder(signed_image(house.keys))
        folder.store.write(name, data)
        assert refused(house, folder) is Code.RELEASE_FILE
    folder = house.folder(signed_image(house.keys))
    folder.store.write("sbom.json", (folder.store.read("sbom.json") or b"") + b" ")
    assert refused(house, folder) is Code.RELEASE_FILE
    folder.store.delete("sbom.json")
    assert refused(house, folder) is Code.RELEASE_PART


def test_of_a_large_file_no_more_is_read_than_shows_it() -> None:
    class Counting(MemoryStore):
        most = 0

        def read_range(self, name: str, start: int, length: int) -> bytes:
            self.most = max(self.most, length)
            return (super().read(name) or b"")[start : start + length]

        def read(self, name: str) -> bytes | None:
            self.most = max(self.most, self.size(name) or 0)
            return super().read(name)

        def size(self, name: str) -> int | None:
            return len(self._blobs[name]) if name in self._blobs else None

    store = Counting()
    house = House()
    folder = house.folder(signed_image(house.keys))
    for name, data in everything(folder).items():
        store.write(name, data + bytes(1 << 20) * (name == "image-0.img"))
    with pytest.raises(CellwardError) as error:
        house.publish(Folder(store))
    assert code_of(error) is Code.RELEASE_FILE
    assert store.most <= releases.MAX_RELEASE_SIZE + 1


def test_a_folder_that_is_none(house: House) -> None:
    assert refused(house, Folder(MemoryStore())) is Code.RELEASE_PART


# --- 2 images ---


def changed(data: bytes) -> bytes:
    flipped = bytearray(data)
    flipped[0x210] ^= 1
    return bytes(flipped)


def too_large(keys: Keys) -> bytes:
    return signed_image(keys, payload=bytes(HARDWARE["bms-m33"].slot(Stage.APP).size))


IMAGES: list[tuple[str, Callable[[Keys], bytes], Code]] = [
    ("flipped", lambda keys: changed(signed_image(keys)), Code.IMAGE_HASH),
    ("a stranger's key", lambda keys: signed_image(Keys()), Code.IMAGE_KEY_UNKNOWN),
    ("too large", too_large, Code.FIRMWARE_TOO_LARGE),
]


@pytest.mark.parametrize(("what", "make", "code"), IMAGES, ids=[what for what, _, _ in IMAGES])
def test_an_image_that_no_module_takes(
    house: House, what: str, make: Callable[[Keys], bytes], code: Code
) -> None:
    assert refused(house, house.folder(signed_image(house.keys, stage=LOADER), make(house.keys))) is code


def test_a_development_key(house: House) -> None:
    key = house.keys("firmware").public_key
    folder = house.folder(signed_image(house.keys))
    gate = replace(house.gate, gate=replace(house.gate.gate, development=[key.key_hash]))
    with pytest.raises(CellwardError) as error:
        check_release(folder, [house.hand.public_key], house.released, gate)
    assert code_of(error) is Code.PUBLISH_DEVELOPMENT_KEY


def test_hardware_that_nobody_has(house: House) -> None:
    data = signed_image(house.keys)
    strange = signed_image(house.keys, class_id=bytes(16))
    folder = house.folder(data, sbom=sbom_of(strange))
    of = replace(unsigned({"image-0.img": data}), sbom=File.of("sbom.json", sbom_of(strange)))
    of = replace(of, parts=(replace(of.parts[0], file=File.of("image-0.img", strange)),))
    with pytest.raises(CellwardError) as error:
        house.gate.check(of, {"image-0.img": strange, **everything(folder)} | {"image-0.img": strange})
    assert code_of(error) is Code.IMAGE_HARDWARE


@pytest.mark.parametrize(
    "lie",
    [{"hardware": "bms-m33-18s"}, {"stage": "loader"}, {"version": Version(1, 4, 1)}, {"counter": 8}],
    ids=["hardware", "stage", "version", "counter"],
)
def test_an_image_that_is_not_what_the_release_says(house: House, lie: dict[str, object]) -> None:
    assert refused(house, house.folder(signed_image(house.keys), change=lie)) is Code.RELEASE_PART


def test_other_bytes_under_a_published_version(house: House) -> None:
    house.publish(house.folder(signed_image(house.keys)))
    other = house.folder(signed_image(house.keys, payload=b"other" * 16), name="R2")
    assert refused(house, other) is Code.STORAGE_EXISTS


# --- 3 counters ---


def test_a_security_fix_with_the_same_counter(house: House) -> None:
    house.publish(house.folder(signed_image(house.keys, "1.4.0", 7)))
    fix = house.folder(signed_image(house.keys, "1.4.1", 7), name="R2", security_fix=True)
    assert refused(house, fix) is Code.PUBLISH_COUNTER
    house.publish(house.folder(signed_image(house.keys, "1.4.1", 7), name="R3"))
    house.publish(house.folder(signed_image(house.keys, "1.4.2", 8), name="R4", security_fix=True))


def test_the_first_of_its_kind_may_be_a_security_fix(house: House) -> None:
    house.publish(house.folder(signed_image(house.keys), security_fix=True))
    other = signed_image(house.keys, hardware="bms-m33-18s"), signed_image(house.keys, stage=LOADER)
    house.publish(house.folder(*other, name="R2", security_fix=True))


def test_a_fix_is_repeated_after_it_is_out(house: House) -> None:
    house.publish(house.folder(signed_image(house.keys, "1.4.0", 7)))
    fix = house.folder(signed_image(house.keys, "1.4.1", 8), name="R2", security_fix=True)
    assert house.publish(fix) == house.publish(fix)


def test_a_counter_that_falls(house: House) -> None:
    house.publish(house.folder(signed_image(house.keys, "1.4.0", 7)))
    assert refused(house, house.folder(signed_image(house.keys, "1.4.1", 6), name="R2")) is Code.IMAGE_COUNTER


def test_an_older_image_that_is_out_does_not_come_back_in_a_new_release(house: House) -> None:
    old = signed_image(house.keys, "1.3.0", 6)
    house.publish(house.folder(old))
    house.publish(house.folder(signed_image(house.keys, "1.4.0", 7), name="R2"))
    assert refused(house, house.folder(old, name="R3")) is Code.PUBLISH_COUNTER


# --- 4 calibrations ---


@pytest.fixture
def calibrated(house: House) -> Callable[..., ReleaseGate]:
    def make(hardware: str = "bms-m33", version: str = "2.0.0", counter: int = 3) -> ReleaseGate:
        found = hardware, Version.parse(version), counter
        return replace(house.gate, read_calibration=lambda data, what: found)

    return make


def calibration(
    version: str = "2.0.0", counter: int = 3, data: bytes = b"{}", name: str = "R1"
) -> releases.Release:
    made = unsigned({}, sbom_of(), name=name)
    part = Part(File.of("pack.cal", data), "bms-m33", CALIBRATION, Version.parse(version), counter)
    return replace(made, parts=(part,), encoded=name.encode())


def held(of: releases.Release, data: bytes = b"{}") -> dict[str, bytes]:
    return {"pack.cal": data, "sbom.json": sbom_of()}


def test_a_calibration_is_what_the_release_says(calibrated: Callable[..., ReleaseGate]) -> None:
    assert calibrated().check(calibration(), held(calibration())) == ()
    for lie in (calibrated("bms-m33-18s"), calibrated(version="2.0.1"), calibrated(counter=4)):
        with pytest.raises(CellwardError) as error:
            lie.check(calibration(), held(calibration()))
        assert code_of(error) is Code.RELEASE_PART


def test_a_calibration_s_counter_does_not_fall_and_rises_with_a_fix(
    calibrated: Callable[..., ReleaseGate],
) -> None:
    older = calibration("1.0.0", 4, name="R0")
    for of, gate in (
        (calibration(), calibrated()),
        (replace(calibration(counter=4), security_fix=True), calibrated(counter=4)),
    ):
        with pytest.raises(PolicyRefused) as error:
            replace(gate, earlier=[older]).check(of, held(of))
        assert code_of(error) is Code.PUBLISH_COUNTER
    same = calibration(counter=4)
    replace(calibrated(counter=4), earlier=[older]).check(same, held(same))
    itself = replace(calibration(), security_fix=True)
    replace(calibrated(), earlier=[itself]).check(itself, held(itself))


# --- 5 pairs ---


def test_no_app_above_its_loader(house: House) -> None:
    loader = signed_image(house.keys, "1.4.0", 7, stage=LOADER)
    house.publish(house.folder(loader, signed_image(house.keys, "1.4.0", 7)))
    app = signed_image(house.keys, "1.5.0", 8)
    assert refused(house, house.folder(app, name="R2")) is Code.PUBLISH_COUNTER
    assert refused(house, house.folder(app, loader, name="R2")) is Code.PUBLISH_COUNTER
    house.publish(house.folder(app, signed_image(house.keys, "1.5.0", 8, stage=LOADER), name="R3"))


def test_a_loader_that_was_withdrawn_is_none(house: House) -> None:
    first = house.folder(signed_image(house.keys, "1.4.0", 7, stage=LOADER))
    second = house.folder(signed_image(house.keys, "1.5.0", 9, stage=LOADER), name="R2")
    house.publish(first)
    house.publish(second)
    app = house.folder(signed_image(house.keys, "1.4.0", 8), name="R3")
    take_back(house, second)
    assert refused(house, app) is Code.PUBLISH_COUNTER


# --- 6 requirements ---


def dependent(keys: Keys, least: str) -> bytes:
    board, hand = HARDWARE["bms-m33"], keys("firmware")
    made = build(
        program(b"firmware" * 16, board.name, Stage.APP),
        version=Version(1, 4, 0),
        counter=7,
        hardware=(board.vendor_id, board.class_id(Stage.APP)),
        header_size=board.header_size,
        extras=Extras(dependencies=(Dependency(0, Version.parse(least)),)),
    )
    return made.signed(hand.public_key, hand.sign(made.digest))


def test_a_dependency_of_an_image(house: House) -> None:
    """TLV 0x40: unmet, met by what is out, met by what comes with it, and undone by what comes with it."""
    app = dependent(house.keys, "1.4.0")
    assert refused(house, house.folder(app)) is Code.PUBLISH_DEPENDENCY
    old, new = (signed_image(house.keys, v, 7, stage=LOADER) for v in ("1.3.0", "1.4.0"))
    assert refused(house, house.folder(app, old)) is Code.PUBLISH_DEPENDENCY
    house.publish(house.folder(old, name="R0"))
    assert refused(house, house.folder(app)) is Code.PUBLISH_DEPENDENCY
    house.publish(house.folder(new, name="R1"))
    assert refused(house, house.folder(app, old, name="R2")) is Code.PUBLISH_DEPENDENCY
    house.publish(house.folder(app, name="R3"))


def test_a_dependency_met_by_the_same_release(house: House) -> None:
    house.publish(house.folder(dependent(house.keys, "1.4.0"), signed_image(house.keys, stage=LOADER)))


def test_what_was_withdrawn_meets_no_requirement(house: House) -> None:
    loader = house.folder(signed_image(house.keys, stage=LOADER), name="R0")
    house.publish(loader)
    take_back(house, loader)
    assert refused(house, house.folder(dependent(house.keys, "1.4.0"))) is Code.PUBLISH_DEPENDENCY


def test_a_requirement_of_the_release_for_its_own_hardware(house: House) -> None:
    need = Requirement("bms-m33", "app", CALIBRATION, Version(2, 0, 0))
    folder = house.folder(signed_image(house.keys), requires=[need])
    assert refused(house, folder) is Code.PUBLISH_DEPENDENCY
    other = replace(calibration(), parts=(replace(calibration().parts[0], hardware="bms-m33-18s"),))
    gate = house.gate
    files = folder.files(folder.release([house.hand.public_key]))
    of = folder.release([house.hand.public_key])
    with pytest.raises(PolicyRefused):
        replace(gate, earlier=[other]).check(of, files)
    replace(gate, earlier=[calibration()]).check(of, files)
    with pytest.raises(PolicyRefused):
        replace(gate, earlier=[calibration("1.9.0")]).check(of, files)


# --- 7 SBOM ---


def test_an_sbom_of_something_else(house: House) -> None:
    app = signed_image(house.keys)
    assert refused(house, house.folder(app, sbom=sbom_of(b"another"))) is Code.RELEASE_SBOM
    assert refused(house, house.folder(app, sbom=b"{}")) is Code.RELEASE_SBOM
    two = house.folder(app, signed_image(house.keys, stage=LOADER), sbom=sbom_of(app))
    assert refused(house, two) is Code.RELEASE_SBOM


def test_an_sbom_may_name_the_firmware_or_the_image(house: House) -> None:
    app = signed_image(house.keys)
    house.publish(house.folder(app, sbom=sbom_of(decode(app).payload)))


# --- four eyes ---


def test_nobody_has_approved(house: House) -> None:
    folder = house.folder(signed_image(house.keys), approved=False)
    assert refused(house, folder) is Code.RELEASE_APPROVAL
    with pytest.raises(PolicyRefused):
        house.publish(folder, approvers=[])
    house.approve(folder)
    with pytest.raises(PolicyRefused):
        house.publish(folder, approvers=[])
    house.publish(folder)


def test_an_approval_by_somebody_who_may_not(house: House) -> None:
    folder = house.folder(signed_image(house.keys), approved=False)
    house.approve(folder, Hand("mallory"))
    assert refused(house, folder) is Code.DOCUMENT_SIGNATURE


def test_an_approval_that_was_moved_here_or_edited(house: House) -> None:
    other = house.folder(signed_image(house.keys), name="R0")
    folder = house.folder(signed_image(house.keys), approved=False)
    name = releases.approval_file(house.ada.public_key)
    folder.store.write(name, other.store.read(name) or b"")
    assert refused(house, folder) is Code.RELEASE_OTHER
    folder.store.write(name, (other.store.read(name) or b"").replace(b"A", b"B"))
    with pytest.raises(CellwardError):
        house.publish(folder)
    assert house.maker.images.targets() == ()


# --- taking back ---


def test_a_withdrawn_release_is_neither_published_nor_ordered(house: House) -> None:
    app = signed_image(house.keys)
    folder = house.folder(app)
    copy = Folder(MemoryStore())
    for name, data in everything(folder).items():
        copy.store.write(name, data)
    (target,) = house.publish(folder)
    take_back(house, folder)
    assert refused(house, folder) is Code.RELEASE_WITHDRAWN
    assert refused(house, copy) is Code.RELEASE_WITHDRAWN
    with pytest.raises(PolicyRefused) as error:
        house.released.check_not_withdrawn({target.name: target.sha256})
    assert code_of(error) is Code.RELEASE_WITHDRAWN
    house.publish(house.folder(app, name="R2"))
    house.released.check_not_withdrawn({target.name: target.sha256})


def test_withdrawn_before_it_was_out(house: House) -> None:
    app = signed_image(house.keys)
    folder = house.folder(app)
    take_back(house, folder)
    digest = part_of("x", app).file.sha256
    with pytest.raises(PolicyRefused):
        house.released.check_not_withdrawn({"app": digest})
    assert house.released.withdrawn() == {digest: "R1"}


def test_the_folder_alone_says_it_elsewhere(house: House) -> None:
    """Another maker's record, or a lost one: the folder's own withdrawal counts too."""
    folder = house.folder(signed_image(house.keys))
    take_back(house, folder)
    elsewhere = replace(house, record=MemoryStore())
    assert refused(elsewhere, folder) is Code.RELEASE_WITHDRAWN
    take_back(elsewhere, folder)
    assert elsewhere.released.is_withdrawn(folder.release([house.hand.public_key]))


def test_withdrawn_twice_and_cut_off_in_between(house: House) -> None:
    folder = house.folder(signed_image(house.keys))
    take_back(house, folder, "first")
    with pytest.raises(PolicyRefused) as error:
        take_back(house, folder, "second")
    assert (code_of(error), "first" in str(error.value)) == (Code.RELEASE_WITHDRAWN, True)
    folder.store.delete(releases.WITHDRAWAL_FILE)
    of = folder.release([house.hand.public_key])
    house.record.delete(f"{of.id}/{releases.RELEASE_FILE}")
    take_back(house, folder, "third")
    found = folder.withdrawal(of, [house.hand.public_key])
    assert found is not None
    assert found.reason == "first"
    assert house.released.withdrawn()


def test_a_withdrawal_by_a_stranger_counts_neither_here_nor_there(house: House) -> None:
    folder = house.folder(signed_image(house.keys))
    of, mallory = folder.release([house.hand.public_key]), Hand()
    forged = withdraw(of, [mallory.public_key], mallory, "denied", NOW + timedelta(1))
    with pytest.raises(CellwardError) as error:
        house.released.withdraw(of, folder, [house.hand.public_key], lambda: forged)
    assert code_of(error) is Code.DOCUMENT_SIGNATURE
    assert open_release(folder, [house.hand.public_key], house.released) == of
    folder.store.write(releases.WITHDRAWAL_FILE, forged)
    assert refused(house, folder) is Code.DOCUMENT_SIGNATURE


# --- cut off ---


def test_cut_off_between_the_record_and_the_publishing(house: House) -> None:
    folder = house.folder(signed_image(house.keys))
    house.keys("targets").lost = True
    with pytest.raises(Unavailable):
        house.publish(folder)
    house.keys("targets").lost = False
    assert house.maker.images.targets() == ()
    assert len(house.released.all()) == 1
    house.approve(folder)  # with another signature than the recorded one
    (target,) = house.publish(folder)
    assert house.maker.images.targets() == (target,)


def test_what_others_publish_meanwhile_counts(house: House) -> None:
    """The gate is asked again where nobody else can publish."""
    fix = house.folder(signed_image(house.keys, "1.4.1", 7), name="R2", security_fix=True)
    stale = house.gate
    house.publish(house.folder(signed_image(house.keys, "1.4.0", 7)))
    with pytest.raises(PolicyRefused) as error:
        house.publish(fix, gate=stale)
    assert code_of(error) is Code.PUBLISH_COUNTER
    assert len(house.released.all()) == len(house.maker.images.targets()) == 1


# --- the folder ---


def test_a_new_folder_or_one_that_was_cut_off() -> None:
    files = {"a": b"1", "b": b"2"}
    folder = Folder(MemoryStore())
    folder.store.write("a", b"1")
    folder.make(files, lambda: b"signed")
    assert everything(folder) == {**files, "release.json": b"signed"}
    for name, data in (("c", b""), ("a", b"3")):
        folder = Folder(MemoryStore())
        folder.store.write(name, data)

        def never() -> bytes:
            raise AssertionError("nothing is to be signed")

        with pytest.raises(PolicyRefused) as error:
            folder.make(files, never)
        assert code_of(error) is Code.STORAGE_EXISTS
        assert everything(folder) == {name: data}
