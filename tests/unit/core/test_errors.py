"""The tree of refusals, and words that no single glitch turns into each other."""

import re
from itertools import combinations

import pytest

from cellward.core import errors
from cellward.core.errors import (
    CODE_OF_STATUS,
    STATUS_OK,
    STATUS_WORDS,
    CellwardError,
    Code,
    FormatRefused,
    ModuleRefused,
    PolicyRefused,
    Refused,
    TrustRefused,
    Unavailable,
)

PARENTS = {
    Refused: CellwardError,
    FormatRefused: Refused,
    TrustRefused: Refused,
    PolicyRefused: Refused,
    ModuleRefused: Refused,
    Unavailable: CellwardError,
}
MIN_DISTANCE = 10

# Words in the field on 2026-11-24. Rows are added, never changed: a report from an old module must
# read the same for ever.
WORDS_IN_THE_FIELD = {
    "image.magic": 0x05CEDC33,
    "image.header": 0x0F851F36,
    "image.flags": 0x7F101CF1,
    "image.size": 0xAC09EDB4,
    "image.tlv": 0x406CB9DB,
    "image.tlv_unknown": 0x1B35256B,
    "image.tlv_duplicate": 0xE9B58A64,
    "image.hash": 0xB817A6A9,
    "image.no_signature": 0x6E8790B5,
    "image.signature": 0x4D37943A,
    "image.key_malformed": 0x7EDF0190,
    "image.key_unknown": 0x835A7BE0,
    "image.key_revoked": 0x45C8FA55,
    "image.counter": 0xA1DD5227,
    "image.hardware": 0x18BFF20A,
    "bank.not_bootable": 0x3D38C785,
    "bank.none_good": 0x9C245F9A,
    "bank.refused_by_loader": 0x19C3729B,
    "selftest.cell_sum": 0x6495F60E,
    "selftest.cell_range": 0x60B95D27,
    "selftest.temperature": 0x8D4CF598,
    "selftest.front_end": 0x59509DAE,
    "selftest.limits": 0xEC947913,
    "selftest.contactors": 0xC04EED2B,
    "boot.watchdog": 0xE28BA8E3,
    "boot.fault": 0x99868E6E,
    "flash.readback": 0xE820FF2A,
    "flash.range": 0xA371475A,
    "flash.unerased": 0x096EA35E,
    "flash.locked": 0xB4DA0F19,
    "otp.one_way": 0x8F31A8D6,
}
# Names in runbooks and in other people's scripts: none may vanish.
CODES_IN_THE_FIELD = {
    "wire": "truncated trailing",
    "firmware": "empty format overlap gap address too_large unreadable",
    "image": (
        "magic header flags size tlv tlv_unknown tlv_duplicate hash no_signature signature "
        "key_malformed key_unknown key_revoked counter hardware version no_key_given"
    ),
    "key": "format exists exportable",
    "token": "absent ambiguous key_missing pin_wrong pin_locked pin_missing uri failed",
    "metadata": "format too_large signature version expired hash missing",
    "target": "delegation vehicle ecu hardware counter mismatch missing hash length name",
    "plan": "counter version hardware incomplete",
    "gate": "contactors current temperature charge supply fault",
    "flash": "unerased alignment range locked readback",
    "otp": "one_way",
    "power": "cut",
    "bank": "not_bootable none_good refused_by_loader",
    "selftest": "cell_sum cell_range temperature front_end limits contactors",
    "boot": "watchdog fault hang",
    "update": "fell_back",
    "link": "frame",
    "module": "state busy absent",
    "tls": "client_certificate server",
    "server": "unreachable refused",
    "request": "format too_large not_found",
    "enrol": "token",
    "report": "signature replayed",
    "vehicle": "unknown",
    "storage": "full failed exists missing database",
    "config": "invalid",
}


@pytest.mark.parametrize(("child", "parent"), PARENTS.items())
def test_every_error_has_its_place_in_the_tree(child: type, parent: type) -> None:
    assert child.__bases__ == (parent,)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn = re.findall(
        r"(?:[├└]── )?\b([A-Z]\w+?(?:Error|Refused|Unavailable)|Refused|Unavailable)\b", _tree()
    )
    defined = [name for name, value in vars(errors).items() if isinstance(value, type) and _is_ours(value)]
    assert sorted(drawn) == sorted(defined)


def _tree() -> str:
    return (errors.__doc__ or "").split("::")[1].split("Codes are")[0]


def _is_ours(value: type) -> bool:
    return issubclass(value, CellwardError)


def test_a_refusal_is_never_an_absence() -> None:
    assert not issubclass(Unavailable, Refused)
    assert not issubclass(Refused, Unavailable)


def test_one_name_one_check() -> None:
    # A repeated value would make the second name an alias, which iteration leaves out.
    assert list(Code.__members__.values()) == list(Code)


@pytest.mark.parametrize("code", Code)
def test_codes_are_lower_case_and_dotted(code: Code) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", code)


def test_no_code_was_ever_renamed() -> None:
    known = {f"{family}.{name}" for family, names in CODES_IN_THE_FIELD.items() for name in names.split()}
    assert len(known) == 105
    assert known <= {str(code) for code in Code}


@pytest.mark.parametrize(("code", "word"), WORDS_IN_THE_FIELD.items())
def test_a_word_in_the_field_keeps_its_meaning(code: str, word: int) -> None:
    assert STATUS_WORDS[Code(code)] == word
    assert CODE_OF_STATUS[word] is Code(code)


def test_the_word_for_ok_never_moves() -> None:
    assert STATUS_OK == 0x1CCE8EE1


def test_words_are_far_from_each_other_from_ok_and_from_stuck_lines() -> None:
    words = [*STATUS_WORDS.values(), STATUS_OK, 0, 0xFFFF_FFFF]
    near = [(hex(a), hex(b)) for a, b in combinations(words, 2) if (a ^ b).bit_count() < MIN_DISTANCE]
    assert near == []


def test_words_fit_32_bits_and_map_both_ways() -> None:
    assert all(0 < word < 2**32 for word in STATUS_WORDS.values())
    assert {code: word for word, code in CODE_OF_STATUS.items()} == STATUS_WORDS


@pytest.mark.parametrize(
    ("sides", "line"),
    [
        ({}, "[image.hash] app.bin"),
        ({"expected": "a"}, "[image.hash] app.bin: expected a"),
        ({"found": "b"}, "[image.hash] app.bin: found b"),
        ({"expected": "a", "found": "b"}, "[image.hash] app.bin: expected a, found b"),
        ({"advice": "sign it"}, "[image.hash] app.bin; sign it"),
        (
            {"expected": "a", "found": "b", "advice": "sign it"},
            "[image.hash] app.bin: expected a, found b; sign it",
        ),
    ],
)
def test_an_error_is_one_line(sides: dict[str, str], line: str) -> None:
    error = TrustRefused(Code.IMAGE_HASH, "app.bin", **sides)
    assert str(error) == line
    assert error.args == (line,)


@pytest.mark.parametrize("kind", [CellwardError, *PARENTS])
def test_about_says_the_same_of_another_subject(kind: type[CellwardError]) -> None:
    first = kind(Code.IMAGE_HASH, "image", expected="a", found="b", advice="c")
    second = first.about("app.bin")
    assert type(second) is kind
    assert (second.code, second.subject) == (Code.IMAGE_HASH, "app.bin")
    assert (second.expected, second.found, second.advice) == ("a", "b", "c")
    assert first.subject == "image"
