"""The key register: its rules, its chain, and who may sign with what, when."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cellward.core import envelope, register, strictjson
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import Algorithm, KeyStage, Role
from cellward.core.register import Document, Entry, Register, State, Status, verify_chain
from tests.support.ceremony import CUSTODY, DAY, NOW, House, entry, sign
from tests.support.maker import Hand

PRODUCTION, DEVELOPMENT = KeyStage.PRODUCTION, KeyStage.DEVELOPMENT
REVOKED = Status(State.REVOKED, NOW, "stolen laptop")


@pytest.fixture(scope="module")
def house() -> House:
    return House.make()


def code(error: pytest.ExceptionInfo[CellwardError]) -> Code:
    return error.value.code


def changed(of: Register, hand: Hand, **values: object) -> tuple[Entry, ...]:
    """The entries with one of them changed."""
    return tuple(
        replace(e, **values) if e.key == hand.public_key else e  # type: ignore[arg-type]
        for e in of.entries
    )


# --- the file ---


def test_there_and_back(house: House) -> None:
    read = register.decode(house.first.data)
    assert read == house.first
    assert read.register.key(house.firmware.public_key.fingerprint).custody == CUSTODY
    assert verify_chain([house.first.data]) == house.first.register


def test_every_algorithm_has_a_place() -> None:
    hands = [Hand.of(algorithm) for algorithm in Algorithm]
    entries = [entry(Hand(), Role.ROOT), *(entry(hand, Role.RELEASE) for hand in hands)]
    made = register.unsigned(register.first(entries, 1, NOW))
    read = register.decode(made.data).register
    assert {e.key for e in read.entries} >= {hand.public_key for hand in hands}


def test_the_fingerprint_is_the_same_before_and_after_signing(house: House) -> None:
    unsigned = register.unsigned(house.first.register)
    assert unsigned.fingerprint == house.first.fingerprint
    assert unsigned.sha256 != house.first.sha256


def test_another_encoding_of_the_same_is_refused(house: House) -> None:
    tree = strictjson.decode(house.first.envelope.payload, "test", 10**6)
    assert isinstance(tree, dict)
    tree["keys"][0]["fingerprint"] = "0" * 64
    for payload in (strictjson.encode(tree), house.first.envelope.payload + b" "):
        made = envelope.Envelope(house.first.envelope.payload_type, payload).encode()
        with pytest.raises(CellwardError) as error:
            register.decode(made)
        assert code(error) is Code.METADATA_FORMAT


def test_an_unknown_field_is_refused(house: House) -> None:
    tree = strictjson.decode(house.first.envelope.payload, "test", 10**6)
    assert isinstance(tree, dict)
    custody = tree["keys"][0]["custody"]
    for place in (tree, tree["root"], tree["keys"][0], custody, custody["attributes"], custody["token"]):
        place["more"] = 1
        with pytest.raises(CellwardError) as error:
            register.decode(envelope.make(register.KIND, tree).encode())
        assert (code(error), error.value.found) == (Code.METADATA_FORMAT, "'more'")
        del place["more"]


def test_a_format_of_later(house: House) -> None:
    tree = strictjson.decode(house.first.envelope.payload, "test", 10**6)
    assert isinstance(tree, dict)
    with pytest.raises(CellwardError) as error:
        register.decode(envelope.make(register.KIND, tree | {"format": 2}).encode())
    assert (code(error), error.value.expected) == (Code.METADATA_FORMAT, "'format' from 1 to 1")


# --- the rules of one version ---


def test_rules(house: House) -> None:
    good, holder = house.first.register, house.holders[0]
    fingerprint = house.firmware.public_key.fingerprint
    other = house.log.public_key.fingerprint
    bad: list[dict[str, object]] = [
        {"version": 0},
        {"version": 0, "previous": "0" * 64},
        {"root": replace(good.root, threshold=0)},
        {"version": 2},
        {"previous": "0" * 64},
        {"entries": good.entries[::-1]},
        {"entries": (*good.entries, good.entries[-1])},
        {"root": replace(good.root, threshold=4)},
        {"root": replace(good.root, keys=good.root.keys[:2])},
        {"root": replace(good.root, keys=(*good.root.keys, fingerprint))},
        {"entries": changed(good, holder, status=REVOKED)},
        {"entries": changed(good, holder, stage=DEVELOPMENT)},
        {"entries": changed(good, house.firmware, not_after=NOW - DAY)},
        {"entries": changed(good, house.firmware, status=Status(State.ACTIVE, NOW))},
        {"entries": changed(good, house.firmware, status=Status(State.ACTIVE, None, "why"))},
        {"entries": changed(good, house.firmware, status=Status(State.RETIRED))},
        {"entries": changed(good, house.firmware, status=Status(State.RETIRED, NOW, "why"))},
        {"entries": changed(good, house.firmware, status=Status(State.REVOKED, NOW))},
        {"entries": changed(good, house.firmware, status=Status(State.REVOKED, NOW + DAY, "soon"))},
        {"entries": changed(good, house.firmware, successor="0" * 64)},
        {"entries": changed(good, house.firmware, successor=other)},
        {"entries": changed(good, house.firmware, successor=house.development.public_key.fingerprint)},
        {"entries": changed(good, house.firmware, successor=fingerprint)},
    ]
    for change in bad:
        with pytest.raises(CellwardError) as error:
            replace(good, **change)  # type: ignore[arg-type]
        assert code(error) is Code.REGISTER_CONTENT, change


def test_every_key_once_in_order(house: House) -> None:
    good = house.first.register
    one = good.key(house.firmware.public_key.fingerprint)
    at = good.entries.index(one)
    for entries, told in (
        ((*good.entries[:at], one, *good.entries[at:]), "every key once"),
        ((*good.entries[:at], *good.entries[at + 1 :], one), "keys in the order of their fingerprints"),
    ):
        if entries == good.entries:
            continue  # it is the last one already
        with pytest.raises(CellwardError) as error:
            replace(good, entries=entries)
        assert error.value.expected == told


def test_how_many_keys_there_ever_were() -> None:
    gone = Status(State.RETIRED, NOW)
    root = entry(Hand(), Role.ROOT)
    many = [replace(entry(Hand()), status=gone) for _ in range(register.MAX_KEYS)]
    register.first([root, *many[1:]], 1, NOW)
    with pytest.raises(CellwardError) as error:
        register.first([root, *many], 1, NOW)
    assert code(error) is Code.REGISTER_CONTENT


def test_how_many_keys() -> None:
    root = entry(Hand(), Role.ROOT)
    many = [replace(entry(Hand()), name=f"k{number}") for number in range(register.MAX_ACTIVE)]
    register.first([root, *many[1:]], 1, NOW)
    with pytest.raises(CellwardError) as error:
        register.first([root, *many], 1, NOW)
    assert code(error) is Code.REGISTER_CONTENT
    roots = [entry(Hand(), Role.ROOT) for _ in range(register.MAX_ROOT_KEYS + 1)]
    with pytest.raises(CellwardError) as error:
        register.first(roots, 1, NOW)
    assert code(error) is Code.REGISTER_CONTENT


# --- who may use what ---


def test_a_key_for_its_purpose_and_stage(house: House) -> None:
    held = house.first.register
    assert held.check_use(house.firmware.public_key, Role.FIRMWARE, PRODUCTION, NOW).name == "firmware"
    assert [e.key for e in held.signing(Role.FIRMWARE, PRODUCTION, NOW)] == [house.firmware.public_key]
    for hand, purpose, stage, at, expected in (
        (Hand(), Role.FIRMWARE, PRODUCTION, NOW, Code.KEY_UNKNOWN),
        (house.log, Role.FIRMWARE, PRODUCTION, NOW, Code.KEY_PURPOSE),
        (house.firmware, Role.RELEASE, PRODUCTION, NOW, Code.KEY_PURPOSE),
        (house.development, Role.FIRMWARE, PRODUCTION, NOW, Code.KEY_STAGE),
        (house.firmware, Role.FIRMWARE, DEVELOPMENT, NOW, Code.KEY_STAGE),
        (house.firmware, Role.FIRMWARE, PRODUCTION, NOW + 366 * DAY, Code.KEY_EXPIRED),
        (house.firmware, Role.FIRMWARE, PRODUCTION, NOW - DAY, Code.REGISTER_CLOCK),
    ):
        with pytest.raises(CellwardError) as error:
            held.check_use(hand.public_key, purpose, stage, at)
        assert code(error) is expected


def test_not_before(house: House) -> None:
    held = house.next(
        entries=changed(house.first.register, house.firmware, not_before=NOW + 9 * DAY), issued=NOW
    )
    with pytest.raises(CellwardError) as error:
        held.check_use(house.firmware.public_key, Role.FIRMWARE, PRODUCTION, NOW)
    assert code(error) is Code.KEY_NOT_YET
    held.check_use(house.firmware.public_key, Role.FIRMWARE, PRODUCTION, NOW + 9 * DAY)


def test_a_clock_that_is_a_little_behind_is_no_refusal(house: House) -> None:
    key = house.firmware.public_key
    house.first.register.check_use(key, Role.FIRMWARE, PRODUCTION, NOW - timedelta(minutes=9))


def test_retired_from_a_date_on(house: House) -> None:
    status = Status(State.RETIRED, NOW + 9 * DAY)
    held = house.next(entries=changed(house.first.register, house.firmware, status=status))
    key = house.firmware.public_key
    held.check_use(key, Role.FIRMWARE, PRODUCTION, NOW + 8 * DAY)
    with pytest.raises(CellwardError) as error:
        held.check_use(key, Role.FIRMWARE, PRODUCTION, NOW + 9 * DAY)
    assert code(error) is Code.KEY_RETIRED
    assert held.signing(Role.FIRMWARE, PRODUCTION, NOW + 9 * DAY) == ()


def test_a_revoked_key_signs_nothing_whatever_the_clock_says(house: House) -> None:
    status = Status(State.REVOKED, NOW + DAY, "stolen")
    held = house.next(entries=changed(house.first.register, house.firmware, status=status))
    at = NOW + DAY - timedelta(minutes=5)  # before it was revoked, within the slack of the clocks
    for time in (at, NOW + 2 * DAY):
        with pytest.raises(CellwardError) as error:
            held.check_use(house.firmware.public_key, Role.FIRMWARE, PRODUCTION, time)
        assert code(error) is Code.KEY_REVOKED
        assert "stolen" in error.value.found


def test_what_a_revoked_key_signed_counts_where_the_log_has_it_from_before(house: House) -> None:
    key, now = house.firmware.public_key, NOW + 99 * DAY
    first = house.first.register
    first.check_signature(key, Role.FIRMWARE, PRODUCTION, None, now)
    for state, expected in ((State.REVOKED, Code.KEY_REVOKED), (State.RETIRED, Code.KEY_RETIRED)):
        status = Status(state, NOW, "stolen" if state is State.REVOKED else "")
        held = house.next(entries=changed(first, house.firmware, status=status))
        before: datetime = NOW - timedelta(seconds=1)
        held.check_signature(key, Role.FIRMWARE, PRODUCTION, before, now)
        for logged in (None, NOW, NOW + DAY):
            with pytest.raises(CellwardError) as error:
                held.check_signature(key, Role.FIRMWARE, PRODUCTION, logged, now)
            assert code(error) is expected
    revoked = house.next(entries=changed(first, house.firmware, status=REVOKED))
    with pytest.raises(CellwardError) as error:  # a verifier's clock from before the theft
        revoked.check_signature(key, Role.FIRMWARE, PRODUCTION, None, NOW - timedelta(hours=1))
    assert code(error) is Code.KEY_REVOKED
    with pytest.raises(CellwardError) as error:
        first.check_signature(key, Role.FIRMWARE, PRODUCTION, NOW - 2 * DAY, now)
    assert code(error) is Code.KEY_NOT_YET


def test_names(house: House) -> None:
    held = house.first.register
    found = held.named("firmware")
    assert held.named(found.fingerprint) == held.named(found.fingerprint[:8].upper()) == found
    with pytest.raises(CellwardError) as error:
        held.named(found.fingerprint[:7])
    assert code(error) is Code.KEY_UNKNOWN
    same = replace(held, entries=tuple(replace(e, name="root") for e in held.entries))
    with pytest.raises(CellwardError) as error:
        same.named("root")
    assert code(error) is Code.REGISTER_AMBIGUOUS


# --- the chain ---


def chain(*documents: Document) -> list[bytes]:
    return [document.data for document in documents]


def test_a_threshold_of_the_first_root(house: House) -> None:
    unsigned = register.unsigned(house.first.register)
    for hands in ((), house.holders[:1]):
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(sign(unsigned, *hands)))
        assert code(error) is Code.REGISTER_QUORUM
    assert verify_chain(chain(sign(unsigned, *house.holders[1:]))).version == 1


def test_a_signature_of_a_key_that_is_no_root_is_refused(house: House) -> None:
    for hand in (house.firmware, Hand("stranger")):
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(sign(house.first, hand)))
        assert code(error) is Code.DOCUMENT_SIGNATURE


def test_a_change_of_root_needs_both(house: House) -> None:
    """The old root, or anybody could take over; the new one, or nobody knows whether its keys exist."""
    newcomers = [Hand(f"new{number}") for number in range(2)]
    roots = [entry(hand, Role.ROOT, name=hand.name) for hand in newcomers]
    draft = register.with_root(house.first, roots, 2, [], NOW + DAY)
    old, new = house.holders[:2], newcomers
    for hands in ([*old], [*new], [old[0], *new], [*old, new[0]]):
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(house.first, sign(draft, *hands)))
        assert code(error) is Code.REGISTER_QUORUM
    newest = verify_chain(chain(house.first, sign(draft, *old, *new)))
    assert [e.name for e in newest.roots()] == [e.name for e in sorted(roots, key=lambda e: e.fingerprint)]
    assert all(newest.key(hand.public_key.fingerprint).status.state is State.RETIRED for hand in old)


def test_a_root_key_that_has_run_out_counts_no_more(house: House) -> None:
    late = house.next(issued=NOW + 366 * DAY)
    with pytest.raises(CellwardError) as error:
        verify_chain(chain(house.first, sign(late, *house.holders)))
    assert code(error) is Code.REGISTER_QUORUM


def test_another_register_s_version_does_not_follow(house: House) -> None:
    other = House.make()
    with pytest.raises(CellwardError) as error:
        verify_chain(chain(house.first, sign(other.next(), *house.holders[:2])))
    assert code(error) in (Code.REGISTER_VERSION, Code.DOCUMENT_SIGNATURE)


def test_a_chain_begins_with_version_1(house: House) -> None:
    second = sign(house.next(), *house.holders)
    with pytest.raises(CellwardError) as error:
        verify_chain(chain(second))
    assert code(error) is Code.REGISTER_VERSION
    assert verify_chain(chain(house.first, second)).version == 2


def test_what_no_change_may_do(house: House) -> None:
    first, firmware = house.first.register, house.firmware
    less = tuple(e for e in first.entries if e.key != firmware.public_key)
    bad: list[dict[str, object]] = [
        {"version": 3},
        {"previous": "0" * 64},
        {"issued": NOW - DAY},
        {"entries": less},
        {"entries": changed(first, firmware, purpose=Role.RELEASE)},
        {"entries": changed(first, firmware, stage=DEVELOPMENT)},
        {"entries": changed(first, firmware, name="else")},
        {"entries": changed(first, firmware, custody=None)},
        {"entries": changed(first, firmware, not_before=NOW)},
        {"entries": changed(first, firmware, not_after=NOW + 900 * DAY)},
    ]
    for change in bad:
        expected = Code.REGISTER_KEYS if "entries" in change else Code.REGISTER_VERSION
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(house.first, sign(house.next(**change), *house.holders)))
        assert code(error) is expected, change
    assert verify_chain(chain(house.first, sign(house.next(), *house.holders))).version == 2


def test_no_key_comes_back(house: House) -> None:
    revoked = house.next(entries=changed(house.first.register, house.firmware, status=REVOKED))
    second = sign(revoked, *house.holders)
    for status in (Status(), Status(State.RETIRED, NOW), replace(REVOKED, at=NOW + timedelta(hours=1))):
        third = replace(
            revoked,
            version=3,
            previous=second.sha256,
            entries=changed(revoked, house.firmware, status=status),
        )
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(house.first, second, sign(third, *house.holders)))
        assert code(error) is Code.REGISTER_KEYS, status
    earlier = replace(
        revoked,
        version=3,
        previous=second.sha256,
        entries=changed(revoked, house.firmware, status=replace(REVOKED, at=NOW - DAY)),
    )
    assert verify_chain(chain(house.first, second, sign(earlier, *house.holders))).version == 3


def test_the_first_version_is_known_from_elsewhere(house: House) -> None:
    verify_chain(chain(house.first), house.first.sha256)
    keys = [hand.public_key for hand in house.holders]
    verify_chain(chain(house.first), keys)
    for other, anchor in ((House.make().first, house.first.sha256), (House.make().first, keys)):
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(other), anchor)
        assert code(error) is Code.REGISTER_ROOTS
    for known in (keys[:2], [*keys, house.log.public_key], []):
        with pytest.raises(CellwardError) as error:
            verify_chain(chain(house.first), known)
        assert code(error) is Code.REGISTER_ROOTS


@pytest.mark.parametrize("algorithm", [Algorithm.ML_DSA_65, Algorithm.ML_DSA_87])
def test_no_root_key_without_a_token(algorithm: Algorithm) -> None:
    with pytest.raises(CellwardError) as error:
        register.first([entry(Hand.of(algorithm), Role.ROOT)], 1, NOW)
    assert code(error) is Code.REGISTER_CONTENT


@pytest.mark.parametrize("data", [b"", b"{}", b"{}\n{}", b"a\rb\n"])
def test_a_file_that_is_no_list_of_versions(data: bytes) -> None:
    with pytest.raises(CellwardError) as error:
        register.split(data)
    assert code(error) is Code.METADATA_FORMAT
    with pytest.raises(CellwardError) as error:
        verify_chain([])
    assert code(error) is Code.REGISTER_VERSION


def test_a_file_of_too_much() -> None:
    for data in (b"\n" * (register.MAX_CHAIN + 1), bytes(register.MAX_FILE + 1)):
        with pytest.raises(CellwardError) as error:
            register.split(data)
        assert code(error) is Code.METADATA_TOO_LARGE
    assert len(register.split(b"\n" * register.MAX_CHAIN)) == register.MAX_CHAIN


def test_a_successor_stays(house: House) -> None:
    new, other = (entry(Hand(), name=f"firmware-{number}") for number in (2, 3))
    key = house.firmware.public_key.fingerprint
    second = sign(register.rotated(house.first, key, new, NOW + 9 * DAY, NOW), *house.holders)
    for successor, fine in ((other.fingerprint, False), ("", False), (new.fingerprint, True)):
        third = register.added(second, [other], NOW)
        entries = changed(third, house.firmware, successor=successor)
        made = chain(house.first, second, sign(replace(third, entries=entries), *house.holders))
        if fine:
            assert verify_chain(made).version == 3
            continue
        with pytest.raises(CellwardError) as error:
            verify_chain(made)
        assert code(error) is Code.REGISTER_KEYS


def test_a_root_key_counts_from_its_beginning(house: House) -> None:
    late = Hand("late")
    later = replace(entry(late, Role.ROOT), not_before=NOW + DAY)
    for issued, good in ((NOW, False), (NOW + DAY, True)):
        made = chain(sign(register.first([later], 1, issued), late))
        if good:
            assert verify_chain(made).version == 1
            continue
        with pytest.raises(CellwardError) as error:
            verify_chain(made)
        assert code(error) is Code.REGISTER_QUORUM


# --- changes ---


def test_rotation(house: House) -> None:
    new = Hand("firmware-2")
    old = house.firmware.public_key.fingerprint
    until = NOW + 30 * DAY
    made = register.rotated(house.first, old, entry(new, name="firmware-2"), until, NOW + DAY)
    newest = verify_chain(chain(house.first, sign(made, *house.holders)))
    assert newest.key(old).successor == new.public_key.fingerprint
    assert len(newest.signing(Role.FIRMWARE, PRODUCTION, until - DAY)) == 2
    assert [e.name for e in newest.signing(Role.FIRMWARE, PRODUCTION, until)] == ["firmware-2"]
    second = Document(made, *_parts(made, house))
    with pytest.raises(CellwardError) as error:
        register.rotated(second, old, entry(Hand()), until, NOW + DAY)
    assert code(error) is Code.KEY_RETIRED


def _parts(made: Register, house: House) -> tuple[envelope.Envelope, bytes]:
    document = sign(made, *house.holders)
    return document.envelope, document.data


def test_one_key_one_purpose(house: House) -> None:
    for hand in (house.log, house.firmware, house.holders[0]):
        with pytest.raises(CellwardError) as error:
            register.added(house.first, [entry(hand, Role.RELEASE)], NOW + DAY)
        assert code(error) is Code.KEY_EXISTS
    roots = house.first.register.roots()
    for new, others in (
        ([entry(house.firmware, Role.ROOT)], []),
        (roots, [entry(house.holders[0], Role.APPROVAL)]),
        (roots, [entry(house.log, Role.LOG)]),
    ):
        with pytest.raises(CellwardError) as error:
            register.with_root(house.first, new, 1, others, NOW + DAY)
        assert code(error) is Code.KEY_EXISTS


def test_the_last_key_is_not_revoked_by_accident(house: House) -> None:
    key = house.firmware.public_key.fingerprint
    with pytest.raises(CellwardError) as error:
        register.revoked(house.first, key, "stolen", NOW, NOW + DAY)
    assert code(error) is Code.REGISTER_LAST_KEY
    made = register.revoked(house.first, key, "stolen", NOW, NOW + DAY, even_last=True)
    second = sign(made, *house.holders)
    assert verify_chain(chain(house.first, second)).key(key).status == Status(State.REVOKED, NOW, "stolen")
    with pytest.raises(CellwardError) as error:
        register.revoked(second, key, "stolen again", NOW, NOW + DAY)
    assert code(error) is Code.KEY_REVOKED


def test_a_stolen_root_key_leaves_the_root_by_the_others(house: House) -> None:
    thief, *others = house.holders
    made = register.revoked(house.first, thief.public_key.fingerprint, "lost", NOW, NOW + DAY)
    assert len(made.root.keys) == 2
    assert verify_chain(chain(house.first, sign(made, *others))).root.threshold == 2
    with pytest.raises(CellwardError) as error:
        verify_chain(chain(house.first, sign(made, thief, others[0])))
    assert code(error) is Code.REGISTER_QUORUM


def test_a_root_key_that_stays(house: House) -> None:
    """Two stay, one comes, one goes: and who went does not come back."""
    *stay, gone = house.first.register.roots()
    new = entry(Hand("new"), Role.ROOT, name="new")
    made = register.with_root(house.first, [*stay, new], 2, [], NOW + DAY)
    assert {e.fingerprint for e in made.roots()} == {e.fingerprint for e in (*stay, new)}
    assert made.key(gone.fingerprint).status.state is State.RETIRED
    second = sign(made, *house.holders)
    with pytest.raises(CellwardError) as error:
        register.with_root(second, [*stay, gone], 2, [], NOW + DAY)
    assert code(error) is Code.KEY_EXISTS


def test_no_rotation_to_a_known_key(house: House) -> None:
    key = house.firmware.public_key.fingerprint
    with pytest.raises(CellwardError) as error:
        register.rotated(house.first, key, entry(house.development), NOW + DAY, NOW + DAY)
    assert code(error) is Code.KEY_EXISTS


def test_successors_have_an_end(house: House) -> None:
    good, other = house.first.register, entry(Hand(), name="firmware-2")
    one = replace(good.key(house.firmware.public_key.fingerprint), successor=other.fingerprint)
    for back in ("", one.fingerprint):
        entries = {e.fingerprint: e for e in (*good.entries, one, replace(other, successor=back))}
        made = [entries[key] for key in sorted(entries)]
        if not back:
            register.first(made, 2, NOW)
            continue
        with pytest.raises(CellwardError) as error:
            register.first(made, 2, NOW)
        assert error.value.found == "a circle"
