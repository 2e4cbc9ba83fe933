import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.metadata import (
    RULES,
    TUF,
    UPTANE,
    Repository,
    Role,
    RoleKeys,
    attach,
    digest_to_sign,
    encode,
    expiry,
    file_name,
    make_director_targets,
    make_root,
    make_targets,
    make_timestamp,
    parse_file_name,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
    public_key,
    role_keys,
    signed_bytes,
    tuf_key,
    vehicle_id_of,
)
from cellward.core.metadata.parse import MAX_KEYS
from tests.support.delegated import Delegate, delegating
from tests.support.uptane import (
    DIRECTOR_OWNER,
    IMAGE_OWNER,
    NOW,
    VEHICLE,
    director_release,
    holder,
    image_release,
    order,
    sign,
    target,
)
from vectors.forge import RsaKey

ROOT = IMAGE_OWNER.root()
MADE = image_release(target())
FILES: dict[Role, bytes] = {
    Role.ROOT: ROOT,
    Role.TIMESTAMP: MADE.timestamp,
    Role.SNAPSHOT: MADE.snapshot,
    Role.TARGETS: MADE.targets,
}
PARSE: dict[Role, Callable[[bytes], Any]] = {
    Role.ROOT: parse_root,
    Role.TIMESTAMP: parse_timestamp,
    Role.SNAPSHOT: parse_snapshot,
    Role.TARGETS: parse_targets,
}


@pytest.mark.parametrize("role", Role)
def test_what_is_built_is_read_back(role: Role) -> None:
    metadata = PARSE[role](FILES[role])
    assert metadata.signed.type == role
    assert metadata.to_bytes() == FILES[role]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("other", Role)
def test_only_the_right_type_is_taken(role: Role, other: Role) -> None:
    if role is other:
        return
    with pytest.raises(FormatRefused) as caught:
        PARSE[role](FILES[other])
    assert caught.value.code is Code.METADATA_FORMAT


@pytest.mark.parametrize("role", Role)
def test_the_limit_comes_first(role: Role) -> None:
    limit = RULES[role].limit
    padded = FILES[role] + b" " * (limit - len(FILES[role]))
    PARSE[role](padded)
    with pytest.raises(FormatRefused) as caught:
        PARSE[role](padded + b" ")
    assert caught.value.code is Code.METADATA_TOO_LARGE


Change = Callable[[dict[str, Any]], object]


def reach(tree: dict[str, Any], path: str) -> tuple[Any, Any]:
    """The container and the key at `path`: names and indices; `*` is the first of an object."""
    node: Any = tree
    key: Any = None
    for step in path.split(" "):
        node = node if key is None else node[key]
        key = int(step) if isinstance(node, list) else next(iter(node)) if step == "*" else step
    return node, key


def put(path: str, value: object) -> Change:
    def change(tree: dict[str, Any]) -> None:
        node, key = reach(tree, path)
        node[key] = value

    return change


def drop(path: str) -> Change:
    def change(tree: dict[str, Any]) -> None:
        node, key = reach(tree, path)
        del node[key]

    return change


COMMON: dict[str, Change] = {
    "no signed": drop("signed"),
    "signed is a list": put("signed", []),
    "no signatures": drop("signatures"),
    "signatures is an object": put("signatures", {}),
    "signature is text": put("signatures", ["x"]),
    "too many signatures": put("signatures", [{"keyid": f"{n}", "sig": "00" * 8} for n in range(65)]),
    "an unsigned field": put("comment", 1),
    "no version": drop("signed version"),
    "version 0": put("signed version", 0),
    "version true": put("signed version", True),
    "version text": put("signed version", "1"),
    "no expiry": drop("signed expires"),
    "expiry of another form": put("signed expires", "2026-11-24"),
    "expiry on no day": put("signed expires", "2026-02-30T00:00:00Z"),
    "specification 2": put("signed spec_version", "2.0.0"),
    "specification a number": put("signed spec_version", 1),
    "type a list": put("signed _type", ["root"]),
}
SIGNATURE: dict[str, Change] = {
    "no key id": drop("signatures 0 keyid"),
    "key id a number": put("signatures 0 keyid", 5),
    "signature not hex": put("signatures 0 sig", "zz" * 8),
    "signature in capitals": put("signatures 0 sig", "AB" * 8),
    "signature of odd length": put("signatures 0 sig", "a" * 17),
    "signature empty": put("signatures 0 sig", ""),
    "two signatures of one key": put(
        "signatures", [{"keyid": "a", "sig": "00" * 8}, {"keyid": "a", "sig": "11" * 8}]
    ),
    "signature with a further field": put("signatures 0 extra", 1),
}
OF_ROLE: dict[Role, dict[str, Change]] = {
    Role.ROOT: {
        "no consistent snapshots": put("signed consistent_snapshot", False),
        "consistent snapshots 1": put("signed consistent_snapshot", 1),
        "keys a list": put("signed keys", []),
        "key a text": put("signed keys *", "x"),
        "key type RSA": put("signed keys * keytype", "rsa"),
        "scheme of P-384": put("signed keys * scheme", "ecdsa-sha2-nistp384"),
        "key value a list": put("signed keys * keyval", []),
        "key value not PEM": put("signed keys * keyval public", "x"),
        "too many keys": put("signed keys", {f"{n}": {} for n in range(65)}),
        "no targets role": drop("signed roles targets"),
        "a fifth role": put("signed roles mirror", {"keyids": [], "threshold": 1}),
        "threshold 0": put("signed roles root threshold", 0),
        "threshold above the keys": put("signed roles root threshold", 4),
        "threshold true": put("signed roles root threshold", True),
        "no keys for a role": put("signed roles root keyids", []),
        "key ids twice": put("signed roles timestamp keyids", ["a", "a"]),
        "key id without a key": put("signed roles timestamp keyids", ["nobody"]),
        "key ids a text": put("signed roles timestamp keyids", "abc"),
    },
    Role.TIMESTAMP: {
        "meta a list": put("signed meta", []),
        "no snapshot": drop("signed meta snapshot.json"),
        "a second file": put("signed meta targets.json", {"version": 1}),
        "no hash": drop("signed meta snapshot.json hashes"),
        "hash of another kind": put("signed meta snapshot.json hashes", {"md5": "00" * 16}),
        "version 0": put("signed meta snapshot.json version", 0),
        "length below 1": put("signed meta snapshot.json length", 0),
        "length text": put("signed meta snapshot.json length", "1"),
    },
    Role.SNAPSHOT: {
        "meta a text": put("signed meta", "x"),
        "file name with a path": put("signed meta ../targets.json", {"version": 1}),
        "too many files": put("signed meta", {f"{n}.json": {"version": 1} for n in range(4097)}),
        "version true": put("signed meta targets.json version", True),
        "hash too short": put("signed meta targets.json hashes", {"sha256": "ab"}),
    },
    Role.TARGETS: {
        "targets a list": put("signed targets", []),
        "length 0": put("signed targets * length", 0),
        "length true": put("signed targets * length", True),
        "length beyond 32 bits": put("signed targets * length", 2**32),
        "no hash": put("signed targets * hashes", {}),
        "a second hash": put("signed targets * hashes", {"sha256": "ab" * 32, "sha512": "ab" * 64}),
        "delegations a text": put("signed delegations", "x"),
        "delegations without keys": put("signed delegations", {"roles": []}),
        "delegated role a text": put("signed delegations", {"keys": {}, "roles": ["x"]}),
        "delegated key of no type": put("signed delegations", {"keys": {"a": {"keytype": []}}, "roles": []}),
    },
}
CASES = [
    pytest.param(role, change, id=f"{role}: {name}")
    for role in Role
    for name, change in {**COMMON, **SIGNATURE, **OF_ROLE[role]}.items()
]


@pytest.mark.parametrize(("role", "change"), CASES)
def test_malformed(role: Role, change: Change) -> None:
    tree = json.loads(FILES[role])
    change(tree)
    with pytest.raises(FormatRefused) as caught:
        PARSE[role](json.dumps(tree).encode())
    assert caught.value.code is Code.METADATA_FORMAT
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name",
    ["", "../x/app-1.img", "/app-1.img", "a/b/app-1.img", "A/app-1.img", "a/.img", "a/app-1.bin", "a\\b.img"],
)
def test_target_names_stay_in_their_folder(name: str) -> None:
    tree = json.loads(FILES[Role.TARGETS])
    tree["signed"]["targets"] = {name: next(iter(tree["signed"]["targets"].values()))}
    with pytest.raises(FormatRefused) as caught:
        parse_targets(json.dumps(tree).encode())
    assert caught.value.code is Code.TARGET_NAME


def test_strings_of_vehicles_are_in_nfc_and_plain_tuf_does_not_ask() -> None:
    tree = json.loads(MADE.targets)
    tree["signed"]["note"] = "a\u0308"
    data = json.dumps(tree).encode()
    with pytest.raises(FormatRefused):
        parse_targets(data)
    assert parse_targets(data, TUF).signed.unrecognized_fields == {"note": "a\u0308"}


ROLE = "signed delegations roles 0"
DELEGATIONS: dict[str, Change] = {
    "no keys": drop("signed delegations keys"),
    "neither kind": drop("signed delegations roles"),
    "both kinds": put("signed delegations succinct_roles", {}),
    "null": put("signed delegations", None),
    "another kind of key": put("signed delegations keys * scheme", "ed25519"),
    "a key that is none": put("signed delegations keys * keyval public", "x"),
    "no name": drop(f"{ROLE} name"),
    "a top-level name": put(f"{ROLE} name", "snapshot"),
    "a name that is a path": put(f"{ROLE} name", "../up"),
    "a name twice": put(f"{ROLE} name", "bins"),
    "no keyids": put(f"{ROLE} keyids", []),
    "a key id without a key": put(f"{ROLE} keyids 0", "00" * 32),
    "threshold 0": put(f"{ROLE} threshold", 0),
    "a threshold out of reach": put(f"{ROLE} threshold", 2),
    "terminating is no boolean": put(f"{ROLE} terminating", 1),
    "no terminating": drop(f"{ROLE} terminating"),
    "no paths": drop(f"{ROLE} paths"),
    "both ways to name paths": put(f"{ROLE} path_hash_prefixes", ["0"]),
    "an empty list of paths": put(f"{ROLE} paths", []),
    "too many paths": put(f"{ROLE} paths", [f"a/{n}" for n in range(UPTANE.max_paths + 1)]),
    "a path of one segment": put(f"{ROLE} paths", ["*"]),
    "a path that is a set": put(f"{ROLE} paths", ["a/[b]"]),
    "a prefix that is not hex": put("signed delegations roles 1 path_hash_prefixes", ["x"]),
    "an empty prefix": put("signed delegations roles 1 path_hash_prefixes", [""]),
    "hardware that is none": put(f"{ROLE} custom hardware_ids", ["../x"]),
    "no hardware at all": put(f"{ROLE} custom hardware_ids", []),
    "custom is a list": put(f"{ROLE} custom", []),
    "a multi-role delegation": put(f"{ROLE} name", ["a", "b"]),
}
DELEGATING = delegating(Delegate("supplier", hardware=("bms-m33",)), Delegate("bins", prefixes=("0", "f")))[
    "1.targets.json"
]


@pytest.mark.parametrize("name", DELEGATIONS)
def test_malformed_delegations(name: str) -> None:
    tree = json.loads(DELEGATING)
    parse_targets(DELEGATING)
    DELEGATIONS[name](tree)
    with pytest.raises(FormatRefused) as caught:
        parse_targets(json.dumps(tree).encode())
    assert caught.value.code is Code.METADATA_FORMAT


@pytest.mark.parametrize("more", [0, 1])
def test_the_number_of_roles_is_bounded(more: int) -> None:
    tree = json.loads(DELEGATING)
    role = tree["signed"]["delegations"]["roles"][0]
    tree["signed"]["delegations"]["roles"] = [
        {**role, "name": f"r{n}"} for n in range(UPTANE.max_roles + more)
    ]
    data = json.dumps(tree).encode()
    if not more:
        assert parse_targets(data).signed.delegations is not None
        return
    with pytest.raises(FormatRefused) as caught:
        parse_targets(data)
    assert caught.value.expected.startswith(f"at most {UPTANE.max_roles} entries")


@pytest.mark.parametrize(
    "change",
    [
        put("signed delegations succinct_roles bit_length", 33),
        put("signed delegations succinct_roles bit_length", 0),
        put("signed delegations succinct_roles name_prefix", "../up"),
        put("signed delegations succinct_roles threshold", 2),
        drop("signed delegations succinct_roles keyids"),
    ],
)
def test_malformed_bins(change: Change) -> None:
    tree = json.loads(DELEGATING)
    role = tree["signed"]["delegations"].pop("roles")[0]
    tree["signed"]["delegations"]["succinct_roles"] = {
        "keyids": role["keyids"], "threshold": 1, "bit_length": 8, "name_prefix": "bins",
    }  # fmt: skip
    parse_targets(json.dumps(tree).encode())
    change(tree)
    with pytest.raises(FormatRefused):
        parse_targets(json.dumps(tree).encode())


def test_unknown_signed_fields_are_kept_and_signed() -> None:
    metadata = make_targets(version=1, expires=NOW, targets=[target()])
    metadata.signed.unrecognized_fields["x-note"] = {"a": [1]}
    parsed = parse_targets(sign(metadata, holder("targets-1")))
    assert signed_bytes(parsed) == signed_bytes(metadata)


def test_keys_there_and_back() -> None:
    key = holder("k").public_key
    assert public_key(tuf_key(key)) == key
    assert tuf_key(key).keyid == key.fingerprint
    root = parse_root(ROOT).signed
    assert role_keys(root, Role.TARGETS) == IMAGE_OWNER.role_keys()[Role.TARGETS]


def test_role_keys_are_different_and_enough() -> None:
    key = holder("k").public_key
    for keys, threshold in (((key, key), 1), ((key,), 2), ((key,), 0), ((), 1)):
        with pytest.raises(FormatRefused):
            RoleKeys(keys, threshold)


def test_metadata_keys_are_p256() -> None:
    """An RSA key signs firmware and nothing else: neither does a role take it nor a root name it."""
    rsa = RsaKey.make().public
    with pytest.raises(FormatRefused) as caught:
        RoleKeys((rsa,))
    assert caught.value.code is Code.METADATA_FORMAT
    tree = json.loads(ROOT)
    next(iter(tree["signed"]["keys"].values()))["keyval"]["public"] = rsa.pem().decode()
    with pytest.raises(FormatRefused) as caught:
        parse_root(json.dumps(tree).encode())
    assert caught.value.code is Code.METADATA_FORMAT


def test_attach_takes_only_a_signature_of_that_key() -> None:
    metadata = make_root(version=1, expires=NOW, roles=IMAGE_OWNER.role_keys())
    right, wrong = holder("root-1"), holder("root-2")
    with pytest.raises(TrustRefused) as caught:
        attach(metadata, right.public_key, wrong.sign(digest_to_sign(metadata)))
    assert caught.value.code is Code.METADATA_SIGNATURE
    assert metadata.signatures == {}
    signed = attach(metadata, right.public_key, right.sign(digest_to_sign(metadata)))
    assert list(signed.signatures) == [right.public_key.fingerprint]
    assert metadata.signatures == {}


@pytest.mark.parametrize(("count", "taken"), [(MAX_KEYS, True), (MAX_KEYS + 1, False)])
def test_the_number_of_keys_is_bounded(count: int, taken: bool) -> None:
    """A root may hold keys that no role names; each costs a curve check, so there is an end."""
    tree = json.loads(ROOT)
    keys = tree["signed"]["keys"]
    one = next(iter(keys.values()))
    keys.update({f"spare-{n}": one for n in range(count - len(keys))})
    data = json.dumps(tree).encode()
    if taken:
        assert len(parse_root(data).signed.keys) == count
        return
    with pytest.raises(FormatRefused) as caught:
        parse_root(data)
    assert caught.value.expected == f"at most {MAX_KEYS} keys"


@pytest.mark.parametrize(("count", "taken"), [(UPTANE.max_files, True), (UPTANE.max_files + 1, False)])
def test_the_number_of_files_in_a_snapshot_is_bounded(count: int, taken: bool) -> None:
    tree = json.loads(FILES[Role.SNAPSHOT])
    tree["signed"]["meta"] = {f"{n}.json": {"version": 1} for n in range(count)}
    data = json.dumps(tree).encode()
    if taken:
        assert len(parse_snapshot(data).signed.meta) == count
        return
    with pytest.raises(FormatRefused) as caught:
        parse_snapshot(data)
    assert caught.value.expected == f"at most {UPTANE.max_files} files"


def test_a_file_as_large_as_the_limit_is_made_and_read() -> None:
    def padded(size: int) -> bytes:
        metadata = make_timestamp(version=1, expires=NOW, snapshot_version=1, snapshot_data=b"{}")
        metadata.signed.unrecognized_fields["pad"] = "x" * size
        return encode(metadata)

    limit = RULES[Role.TIMESTAMP].limit
    room = limit - len(padded(0))
    data = padded(room)
    assert len(data) == limit
    parse_timestamp(data)
    with pytest.raises(FormatRefused) as caught:
        padded(room + 1)
    assert caught.value.code is Code.METADATA_TOO_LARGE


def test_encode_keeps_the_limit() -> None:
    many = [target(f"1.{n}.0") for n in range(40_000)]
    with pytest.raises(FormatRefused) as caught:
        encode(make_targets(version=1, expires=NOW, targets=many))
    assert caught.value.code is Code.METADATA_TOO_LARGE


def test_director_targets_name_the_vehicle_even_without_orders() -> None:
    parsed = parse_targets(director_release().targets)
    assert vehicle_id_of(parsed.signed) == VEHICLE
    with pytest.raises(FormatRefused):
        vehicle_id_of(parse_targets(MADE.targets).signed)
    with pytest.raises(FormatRefused):
        make_director_targets(version=1, expires=NOW, vehicle_id="../x", assignments=[order(target())])


def test_a_time_without_a_zone_is_a_bug_of_the_caller() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="zone"):
        make_root(version=1, expires=naive, roles=IMAGE_OWNER.role_keys())


@pytest.mark.parametrize(
    ("role", "version", "name"),
    [
        (Role.ROOT, 1, "1.root.json"),
        (Role.SNAPSHOT, 42, "42.snapshot.json"),
        (Role.TARGETS, 7, "7.targets.json"),
        (Role.TIMESTAMP, 9, "timestamp.json"),
    ],
)
def test_file_names(role: Role, version: int, name: str) -> None:
    assert file_name(role, version) == name
    assert parse_file_name(name) == (role, None if role is Role.TIMESTAMP else version)


@pytest.mark.parametrize(
    "name",
    ["root.json", "0.root.json", "01.root.json", "1.timestamp.json", "1.root.json\n", "../1.root.json", ""],
)
def test_other_file_names(name: str) -> None:
    with pytest.raises(FormatRefused) as caught:
        parse_file_name(name)
    assert caught.value.code is Code.TARGET_NAME


def test_the_table_of_the_format() -> None:
    """docs/formats/uptane.md: limits, lifetimes, who signs."""
    rows = {
        role: (rule.limit, rule.lifetime(Repository.IMAGE).days, rule.lifetime(Repository.DIRECTOR).days)
        for role, rule in RULES.items()
    }
    kib = 1024
    assert rows == {
        Role.ROOT: (64 * kib, 365, 365),
        Role.TIMESTAMP: (16 * kib, 7, 1),
        Role.SNAPSHOT: (256 * kib, 7, 1),
        Role.TARGETS: (8 * kib * kib, 90, 1),
    }
    assert [rule.key_role(Repository.DIRECTOR) for rule in RULES.values()] == ["root", *["director"] * 3]
    assert [rule.key_role(Repository.IMAGE) for rule in RULES.values()] == [str(role) for role in Role]
    assert expiry(Role.TIMESTAMP, Repository.DIRECTOR, NOW) == NOW + timedelta(days=1)
    assert DIRECTOR_OWNER.repository is Repository.DIRECTOR
