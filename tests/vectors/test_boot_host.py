"""vectors/boot.json through firmware/boot on the host and through core/: the same answers."""

from collections.abc import Callable, Iterator

import pytest

from cellward.core import bootrecord, ladder, revocation, vault
from cellward.core.errors import Code, Refused
from cellward.core.image import Version
from cellward.core.slots import Lifecycle
from tests.firmware.boot_host import BootHost, boot_host
from vectors import boot
from vectors.boot import NONE, BootCase

CASES = boot.load()
Words = tuple[str, ...]


@pytest.fixture(scope="module")
def host() -> Iterator[BootHost]:
    with boot_host() as running:
        yield running


def named(cases: tuple[BootCase, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@named(CASES)
def test_in_c(case: BootCase, host: BootHost) -> None:
    assert host.ask(case.command, case.words) == case.answer, case.reason


def _bytes(word: str) -> bytes:
    return b"" if word == NONE else bytes.fromhex(word)


def _hkdf(salt: str, secret: str, info: str, size: str) -> Words:
    prk = ladder.extract(_bytes(salt), _bytes(secret))
    return prk.hex(), ladder.expand(prk, _bytes(info), int(size)).hex()


def _ladder(secret: str) -> Words:
    keys = ladder.derive(_bytes(secret))
    public = ladder.update_public_key(keys.update_scalar).spki[-65:]
    rest = (keys.rom_record, keys.stage, keys.loader_record, keys.report, keys.vault)
    return tuple(key.hex() for key in (keys.update_scalar, public, *rest))


def _record(
    by: str, lifecycle: str, bank: str, count: str, counter: str, version: str, digest: str, key: str
) -> Words:
    v = _bytes(version)
    record = bootrecord.BootRecord(
        bootrecord.Measurer(int(by)),
        list(Lifecycle)[int(lifecycle)],
        int(bank),
        int(count),
        int(counter),
        Version(v[0], v[1], int.from_bytes(v[2:4], "little"), int.from_bytes(v[4:], "little")),
        _bytes(digest),
    )
    assert bootrecord.decode(record.encode(_bytes(key))) == record
    return (record.encode(_bytes(key)).hex(),)


def _open(name: str, key: str, committed: str, *pages: str) -> Words:
    whole = [_bytes(page).ljust(2048, b"\xff") for page in pages]
    try:
        block = vault.open_pages(vault.Name(int(name)), _bytes(key), whole, int(committed))
    except Refused as refusal:
        return str(refusal.code), "0", "0", NONE
    return "ok", str(block.version), str(block.counter), block.value.hex()


PYTHON: dict[str, Callable[..., Words]] = {"hkdf": _hkdf, "ladder": _ladder, "record": _record, "open": _open}


@named(tuple(case for case in CASES if case.command in PYTHON))
def test_in_python(case: BootCase) -> None:
    assert PYTHON[case.command](*case.words) == case.answer, case.reason


@named(tuple(case for case in CASES if case.command == "revoke"))
def test_revocations_in_python(case: BootCase) -> None:
    """Format and signatures; which slots remain only the module knows."""
    verdict = "ok"
    try:
        verified = revocation.verify(_bytes(case.words[0]), _bytes(case.words[1]))
        assert verified.encode() == _bytes(case.words[0])
    except Refused as refusal:
        verdict = str(refusal.code)
    offline = (Code.REVOCATION_FORMAT, Code.REVOCATION_SIGNATURE)
    assert verdict == (case.answer[0] if case.answer[0] in offline else "ok"), case.reason


def test_the_committed_vectors_are_what_is_generated() -> None:
    """Same cases, verdicts and reasons; keys and signatures are new."""

    def shape(cases: tuple[BootCase, ...]) -> list[tuple[object, ...]]:
        return [(c.name, c.command, [len(w) for w in c.words], c.reason) for c in cases]

    fresh = boot.cases()
    assert shape(fresh) == shape(CASES)
    stable = [n for n, case in enumerate(CASES) if not case.command.startswith(("revoke", "carry"))]
    assert [fresh[n] for n in stable] == [CASES[n] for n in stable]
    assert [case.answer for case in fresh] == [case.answer for case in CASES]


def test_every_refusal_of_a_revocation_has_a_vector() -> None:
    said = {case.answer[0] for case in CASES if case.command == "revoke"}
    assert said == {
        *("ok", Code.REVOCATION_FORMAT, Code.REVOCATION_SIGNATURE),
        *(Code.REVOCATION_LAST_KEY, Code.REVOCATION_IN_USE, Code.IMAGE_KEY_UNKNOWN),
    }
