"""The ceremony's file: nobody signs the wrong draft, and every signature has its record."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cellward.core import attestation, ceremony, envelope, register, strictjson
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import KeyAttributes, Role
from cellward.sign.ceremony import attest, sign_draft
from cellward.sign.documents import sign_document
from tests.fakes.signer import EXPORTABLE
from tests.support.ceremony import BORN_INSIDE, DAY, NOW, House, contribute, entry, holder, sign

HOLDERS = [holder(name) for name in ("Ada", "Ben", "Cem")]
ROOTS = [
    replace(entry(each.signer, Role.ROOT, name=each.name), custody=None)  # type: ignore[arg-type]
    for each in HOLDERS
]
DRAFT = register.first(ROOTS, 2, NOW)


def begun() -> ceremony.Ceremony:
    return ceremony.begin([], DRAFT)


def code(error: pytest.ExceptionInfo[CellwardError]) -> Code:
    return error.value.code


def test_two_of_three() -> None:
    at = begun()
    assert at.step.missing
    for number, each in enumerate(HOLDERS[:2], 1):
        with pytest.raises(CellwardError) as error:
            at.finished()
        assert code(error) is Code.REGISTER_QUORUM
        at = ceremony.decode(contribute(at, each).encode())  # a file is passed on
        assert len(at.records) == number
    assert at.finished().step.missing == ()
    assert register.verify_chain(register.split(at.chain)).version == 1
    assert ceremony.version_of(at.transcript, "test") == 1
    records = [each.record for each in ceremony.decode(at.chain + at.transcript).finished().records]
    assert {record.holder for record in records} == {"Ada", "Ben"}
    assert all(record.custody.attributes == BORN_INSIDE for record in records)


def test_signing_again_replaces() -> None:
    at = contribute(begun(), HOLDERS[0], HOLDERS[0])
    assert len(at.records) == len(at.step.signers) == 1


def test_the_wrong_draft_is_not_signed() -> None:
    other = ceremony.begin([], register.first(ROOTS, 1, NOW))  # one holder would do
    for text in (begun().draft.fingerprint, begun().draft.fingerprint[:16], "", other.draft.fingerprint[:15]):
        before = [each.signer.signatures for each in HOLDERS]  # type: ignore[attr-defined]
        with pytest.raises(CellwardError) as error:
            sign_draft(other, HOLDERS[0], text, NOW)
        assert code(error) is Code.CEREMONY_FINGERPRINT
        assert before == [each.signer.signatures for each in HOLDERS]  # type: ignore[attr-defined]
    grouped = " ".join(other.draft.fingerprint[at : at + 4].upper() for at in range(0, 64, 4))
    assert sign_draft(other, HOLDERS[0], grouped, NOW).step.signers


def test_a_stranger_is_refused() -> None:
    with pytest.raises(CellwardError) as error:
        contribute(begun(), holder("Eve"))
    assert code(error) is Code.CEREMONY_HOLDER


@pytest.mark.parametrize(
    "flag", ["sensitive", "always_sensitive", "never_extractable", "local", "extractable"]
)
def test_a_key_that_was_or_could_be_outside(flag: str) -> None:
    said = replace(BORN_INSIDE, **{flag: flag == "extractable"})
    loose = holder("Ada", said)
    draft = register.first([entry(loose.signer, Role.ROOT)], 1, NOW)  # type: ignore[arg-type]
    with pytest.raises(CellwardError) as error:
        contribute(ceremony.begin([], draft), loose)
    assert code(error) is Code.CEREMONY_ATTRIBUTES


def test_a_signature_without_its_record_is_no_ceremony() -> None:
    at = contribute(begun(), *HOLDERS[:2])
    silent = ceremony.decode(at.chain + at.records[0].data)
    with pytest.raises(CellwardError) as error:
        silent.finished()
    assert code(error) is Code.CEREMONY_FILE


def test_records_of_another_ceremony_or_person() -> None:
    at = contribute(begun(), *HOLDERS[:2])
    other = contribute(ceremony.begin([], register.first(ROOTS, 1, NOW)), HOLDERS[0])
    forged = replace(at.records[0].record, holder="Eve").envelope().encode()
    unsigned_by_holder = replace(at.records[0].record, key="0" * 64).envelope().encode()
    for lines in (
        other.records[0].data,
        forged,
        unsigned_by_holder,
        at.records[0].data * 2,
        at.records[1].data + at.records[0].data,
    ):
        with pytest.raises(CellwardError) as error:
            ceremony.decode(at.chain + lines)
        assert code(error) in (Code.CEREMONY_FILE, Code.DOCUMENT_SIGNATURE)
    for data in (at.transcript + at.chain, at.transcript, b""):
        with pytest.raises(CellwardError) as error:
            ceremony.decode(data)
        assert code(error) is Code.CEREMONY_FILE
    ada = next(each for each in HOLDERS if each.stored.public_key.fingerprint == at.records[0].record.key)
    later = sign_document(replace(at.records[0].record, version=2).envelope(), ada.signer).encode()
    with pytest.raises(CellwardError) as error:
        ceremony.decode(at.chain + later)
    assert code(error) is Code.CEREMONY_FILE


def test_the_versions_before_are_verified() -> None:
    house = House.make()
    short = sign(house.first.register, house.holders[0])
    draft = replace(house.next(), previous=short.sha256)
    with pytest.raises(CellwardError) as error:
        ceremony.begin([short.data], draft)
    assert code(error) is Code.REGISTER_QUORUM
    assert ceremony.begin([house.first.data], house.next()).previous == house.first


def test_only_what_follows_the_register_here_is_installed() -> None:
    house = House.make()
    made = sign(house.next(), *house.holders)
    two = ceremony.decode(house.first.data + house.ceremony().draft.data)
    with pytest.raises(CellwardError) as error:
        ceremony.check_installed(two, [house.first.data])
    assert code(error) is Code.REGISTER_QUORUM, "nobody has signed"
    at = contribute(begun(), *HOLDERS[:2])
    ceremony.check_installed(at, [])
    ceremony.check_installed(at, [at.draft.data])  # taken up again after a cut
    for installed in ([house.first.data], [house.first.data, made.data]):
        with pytest.raises(CellwardError) as error:
            ceremony.check_installed(at, installed)
        assert code(error) is Code.REGISTER_VERSION


def test_an_old_root_key_may_sign_too() -> None:
    first = contribute(begun(), *HOLDERS[:2])
    newcomer = holder("Dee")
    roots = [entry(newcomer.signer, Role.ROOT, name="Dee")]  # type: ignore[arg-type]
    draft = register.with_root(first.draft, roots, 1, [], NOW + DAY)
    at = ceremony.begin([first.draft.data], draft)
    assert "Dee" in " ".join(at.step.missing)
    at = contribute(at, *HOLDERS[:2], newcomer)
    assert at.finished().draft.register.version == 2


def test_a_draft_of_a_clock_that_is_ahead() -> None:
    at = begun()
    for early, good in ((timedelta(minutes=11), False), (timedelta(minutes=9), True)):
        if good:
            ceremony.check_clock(at.draft, NOW - early)
            continue
        with pytest.raises(CellwardError) as error:
            ceremony.check_clock(at.draft, NOW - early)
        assert code(error) is Code.REGISTER_CLOCK


def test_a_file_of_too_many_lines() -> None:
    with pytest.raises(CellwardError) as error:
        ceremony.decode(b"\n" * (register.MAX_CHAIN + envelope.MAX_SIGNATURES + 1))
    assert code(error) is Code.CEREMONY_FILE


def test_unknown_fields_and_later_formats() -> None:
    """Of a record, which is verified with its key, and of an attestation."""
    at, each = contribute(begun(), HOLDERS[0]), HOLDERS[0]
    attestation_ = attest(each.store, each.stored, each.signer, NOW)

    def of_record(made: bytes) -> object:
        return ceremony.decode(at.chain + made)

    def of_attestation(made: bytes) -> object:
        return attestation.decode(made, "test")

    for kind, data, read in (
        (ceremony.KIND, at.records[0].data, of_record),
        (attestation.KIND, attestation_, of_attestation),
    ):
        payload = envelope.decode(data, kind, "test", 10**5).payload
        tree = strictjson.decode(payload, "test", 10**5)
        assert isinstance(tree, dict)
        for change, told in (({"more": 1}, "'more'"), ({"format": 2}, "2")):
            made = sign_document(envelope.make(kind, tree | change), each.signer).encode()
            with pytest.raises(CellwardError) as error:
                read(made)
            assert (code(error), error.value.found) == (Code.METADATA_FORMAT, told)


# --- attestations ---


def test_an_attestation_is_signed_by_its_key() -> None:
    each = HOLDERS[0]
    data = attest(each.store, each.stored, each.signer, NOW, "please 7")
    read = attestation.decode(data, "test", "please 7")
    assert (read.key, read.custody.attributes) == (each.stored.public_key, BORN_INSIDE)
    with pytest.raises(CellwardError) as error:
        attestation.decode(data, "test", "another")
    assert code(error) is Code.KEY_ATTESTATION
    stolen = replace(read, key=HOLDERS[1].stored.public_key).envelope()
    for made in (read.envelope(), stolen, sign_document(stolen, each.signer)):
        with pytest.raises(CellwardError) as error:
            attestation.decode(made.encode(), "test")
        assert code(error) is Code.DOCUMENT_SIGNATURE


def test_what_a_token_says_is_one_plain_line() -> None:
    assert attestation.plain("a\x1b[31m\nb" + "x" * 300)[:8] == "a?[31m?b"
    assert len(attestation.plain("x" * 300)) == attestation.MAX_LINE


def test_custody_says_which_flag() -> None:
    said = KeyAttributes(**EXPORTABLE.__dict__)
    with pytest.raises(CellwardError) as error:
        attestation.Custody(said, HOLDERS[0].store.facts()).check("key x")
    assert "EXTRACTABLE True" in error.value.found
