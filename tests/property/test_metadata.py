"""Whatever the bytes: the decoders give a value or a refusal, and nothing changed is believed."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cellward.core import trust
from cellward.core.errors import FormatRefused, Refused
from cellward.core.metadata import (
    TUF,
    EcuReport,
    Installed,
    InstallResult,
    Manifest,
    Repository,
    Role,
    assignments_of,
    decode_factory,
    decode_manifest,
    encode_manifest,
    parse_file_name,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
    target_of,
    targets_of,
    vehicle_id_of,
    verify_manifest,
)
from tests.support.delegated import Delegate, delegating
from tests.support.tufrepo import TufRepository, to
from tests.support.uptane import (
    APP,
    DIRECTOR_OWNER,
    ECUS,
    IMAGE_OWNER,
    NOW,
    VEHICLE,
    director_release,
    follow,
    holder,
    image_release,
    order,
    start,
    target,
)

DIRECTOR = director_release(order(target()))
IMAGE = image_release(target())
KEY = holder("primary")
_REPORT = EcuReport(APP.ecu_id, 1, NOW, Installed.from_target(target()), InstallResult("ok"))
_REPORT = _REPORT.signed_by(KEY.public_key, KEY.sign(_REPORT.digest))
_MANIFEST = Manifest(VEHICLE, 5, NOW, (_REPORT,))
MANIFEST = encode_manifest(_MANIFEST.signed_by(KEY.public_key, KEY.sign(_MANIFEST.digest)))

Decode = Callable[[bytes], object]


def director_targets(data: bytes) -> object:
    signed = parse_targets(data).signed
    return vehicle_id_of(signed), assignments_of(signed)


def image_targets(data: bytes) -> object:
    return targets_of(parse_targets(data).signed)


def plain(parse: Callable[..., object]) -> Decode:
    return lambda data: parse(data, TUF)


SUPPLIER = Delegate("supplier", (target(),), hardware=("bms-m33",), keys=("s1", "s2"), threshold=2)
DELEGATING = delegating(SUPPLIER, Delegate("bins", prefixes=("0", "f")))["1.targets.json"]
PLAIN = TufRepository()
PLAIN.delegate("targets", to("role", "a/*"))
PLAIN.publish()

DECODERS: dict[str, tuple[Decode, bytes]] = {
    "delegating targets": (parse_targets, DELEGATING),
    "plain root": (plain(parse_root), PLAIN.files["metadata/1.root.json"]),
    "plain timestamp": (plain(parse_timestamp), PLAIN.files["metadata/timestamp.json"]),
    "plain snapshot": (plain(parse_snapshot), PLAIN.files["metadata/1.snapshot.json"]),
    "plain targets": (plain(parse_targets), PLAIN.files["metadata/1.targets.json"]),
    "root": (parse_root, IMAGE_OWNER.root()),
    "timestamp": (parse_timestamp, IMAGE.timestamp),
    "snapshot": (parse_snapshot, IMAGE.snapshot),
    "image targets": (image_targets, IMAGE.targets),
    "director targets": (director_targets, DIRECTOR.targets),
    "manifest": (decode_manifest, MANIFEST),
    "factory": (decode_factory, json.dumps({"director_root": json.loads(IMAGE_OWNER.root())}).encode()),
}
decoders = pytest.mark.parametrize("name", DECODERS)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "..", "../../x", "bms-m33", "ab" * 32, "2026-11-24T00:00:00Z", "1.0.0", "\ud800", "a\nb"]
    )
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("a\nb"), inner, max_size=4)
    ),
    max_leaves=8,
)


def value_or_refusal(decode: Decode, data: bytes) -> None:
    try:
        decode(data)
    except Refused as refused:
        assert str(refused).startswith("[")
        assert "\n" not in str(refused)  # one line, whatever was in the input


@decoders
@given(st.binary(max_size=300))
@example(b"[" * 60_000)
@example(b'{"signed":' * 15_000)
@example(b'{"signed":{},"signed":{}}')
def test_arbitrary_bytes(name: str, data: bytes) -> None:
    value_or_refusal(DECODERS[name][0], data)


@decoders
@given(trees)
def test_arbitrary_json(name: str, tree: object) -> None:
    value_or_refusal(DECODERS[name][0], json.dumps(tree).encode())


@decoders
@given(position=st.integers(0), insert=st.binary(max_size=6), remove=st.integers(0, 6))
@settings(max_examples=200)
def test_mutated_bytes(name: str, position: int, insert: bytes, remove: int) -> None:
    decode, good = DECODERS[name]
    at = position % len(good)
    value_or_refusal(decode, good[:at] + insert + good[at + remove :])


def places(tree: object) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON tree."""
    found: list[tuple[Any, Any]] = []
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        found += [(tree, key), *places(tree[key])]  # type: ignore[index]
    return found


@decoders
@given(where=st.integers(0), value=trees)
@settings(max_examples=200)
def test_any_field_replaced_by_anything(name: str, where: int, value: object) -> None:
    decode, good = DECODERS[name]
    tree = json.loads(good)
    container, key = (options := places(tree))[where % len(options)]
    container[key] = value
    value_or_refusal(decode, json.dumps(tree).encode())


@decoders
@given(where=st.integers(0))
def test_any_field_removed(name: str, where: int) -> None:
    decode, good = DECODERS[name]
    tree = json.loads(good)
    container, key = (options := places(tree))[where % len(options)]
    del container[key]
    value_or_refusal(decode, json.dumps(tree).encode())


@given(st.text(max_size=30))
def test_file_names(name: str) -> None:
    try:
        role, version = parse_file_name(name)
    except FormatRefused:
        return
    assert (version is None) == (role is Role.TIMESTAMP)
    assert "/" not in name


FILES = {"timestamp": DIRECTOR.timestamp, "snapshot": DIRECTOR.snapshot, "targets": DIRECTOR.targets}
STATE = follow(start(DIRECTOR_OWNER), DIRECTOR)


@pytest.mark.parametrize("name", [*FILES, "root"])
@given(position=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_one_flipped_bit_is_never_believed(name: str, position: int, bit: int) -> None:
    """Refused, or (a bit of a second signature that nobody needs) the same content."""
    state = start(DIRECTOR_OWNER)
    root = DIRECTOR_OWNER.root(2)
    good = {**FILES, "root": root}
    data = bytearray(good[name])
    data[position % len(data)] ^= 1 << bit
    served = {**good, name: bytes(data)}
    try:
        state = trust.update_root(state, served["root"])
        state = trust.update_timestamp(state, served["timestamp"], NOW)
        state = trust.update_snapshot(state, served["snapshot"], NOW)
        state = trust.update_targets(state, served["targets"], NOW)
    except Refused:
        return
    assert name == "root"
    assert state.root.signed == trust.update_root(start(DIRECTOR_OWNER), root).root.signed
    trust.check_director_targets(state, NOW, vehicle_id=VEHICLE, ecus=ECUS)


@given(position=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=200)
def test_one_flipped_bit_of_a_manifest(position: int, bit: int) -> None:
    data = bytearray(MANIFEST)
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(Refused):
        verify_manifest(bytes(data), KEY.public_key, VEHICLE, 4)


@given(
    version=st.from_regex(r"[a-z0-9][a-z0-9.+_-]{0,20}", fullmatch=True),
    counter=st.integers(0, 2**53 - 1),
    length=st.integers(1, 2**32 - 1),
)
def test_every_target_comes_back(version: str, counter: int, length: int) -> None:
    made = target(version, counter, length=length)
    released = image_release(made)
    (file,) = parse_targets(released.targets).signed.targets.values()
    assert target_of(file) == made


@given(st.dictionaries(st.sampled_from(list(Role)[1:]), st.binary(max_size=40)))
def test_persisted_rubbish_is_never_trusted(files: dict[Role, bytes]) -> None:
    root = IMAGE_OWNER.root()
    state = trust.load(Repository.IMAGE, {**files, Role.ROOT: root})
    assert state.files() == {Role.ROOT: root}


@given(st.binary(max_size=40))
def test_a_persisted_root_of_rubbish_is_refused(root: bytes) -> None:
    with pytest.raises(Refused):
        trust.load(Repository.IMAGE, {Role.ROOT: root})


@given(
    kind=st.sampled_from(sorted(TUF.kinds)),
    public=st.text(max_size=80) | st.binary(max_size=40).map(bytes.hex),
    sig=st.text(max_size=40) | st.binary(max_size=80).map(bytes.hex),
)
def test_a_key_that_is_none_verifies_nothing(kind: tuple[str, str], public: str, sig: str) -> None:
    """TUF looks at a key's value only when it is used: a refusal then too, and no crash."""
    tree = json.loads(PLAIN.files["metadata/1.root.json"])
    key = {"keytype": kind[0], "scheme": kind[1], "keyval": {"public": public}}
    tree["signed"]["keys"] = {"k": key}
    tree["signed"]["roles"] = {role: {"keyids": ["k"], "threshold": 1} for role in Role}
    tree["signatures"] = [{"keyid": "k", "sig": sig}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(Refused):
            trust.load(Repository.IMAGE, {Role.ROOT: json.dumps(tree).encode()}, dialect=TUF)
