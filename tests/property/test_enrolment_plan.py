"""Plans and tokens from elsewhere: read, or refused with one code and without a token in the words."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.enrolplan import (
    COLUMNS,
    NEEDED_BY_THE_PLANT,
    NEEDED_BY_THE_SERVER,
    Pack,
    decode,
    decode_tokens,
    encode_tokens,
)
from cellward.core.errors import Code, FormatRefused

VEHICLES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,43}", fullmatch=True)
CELLS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
PATHS = CELLS.map(str.strip).filter(lambda text: text and "|" not in text and text.isprintable())
PLANS = st.lists(
    st.builds(
        Pack,
        st.just(0),
        VEHICLES,
        PATHS,
        st.lists(PATHS, min_size=1, max_size=3).map(tuple),
        st.just(""),
        st.sampled_from([b"", bytes(range(32))]),
    ),
    min_size=1,
    max_size=5,
)


def written(packs: list[Pack], separator: str = ",", end: str = "\n") -> bytes:
    made = io.StringIO()
    writer = csv.writer(made, delimiter=separator, lineterminator=end)
    writer.writerow(COLUMNS)
    for pack in packs:
        row = (pack.vehicle, pack.state, "|".join(pack.modules), pack.tpm, pack.endorsement.hex())
        writer.writerow(row)
    return made.getvalue().encode()


def things(pack: Pack) -> list[str]:
    endorsement = [f"e{pack.endorsement.hex()}"] if pack.endorsement else []
    return [f"v{pack.vehicle}", f"s{pack.state}", *(f"m{module}" for module in pack.modules), *endorsement]


@given(PLANS, st.sampled_from([",", ";"]), st.sampled_from(["\n", "\r\n"]))
def test_a_plan_is_read_as_it_was_written_unless_something_stands_in_it_twice(
    packs: list[Pack], separator: str, end: str
) -> None:
    data = written(packs, separator, end)
    all_of_them = [thing for pack in packs for thing in things(pack)]
    if len(set(all_of_them)) == len(all_of_them):
        found = decode(data, "plan.csv", NEEDED_BY_THE_PLANT)
        assert [things(pack) for pack in found] == [things(pack) for pack in packs]
        return
    with pytest.raises(FormatRefused, match="once"):
        decode(data, "plan.csv", NEEDED_BY_THE_PLANT)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"vehicle\n{t}".encode()))
def test_anything_is_a_plan_or_is_refused(data: bytes) -> None:
    try:
        found = decode(data, "plan.csv", NEEDED_BY_THE_SERVER)
    except FormatRefused as error:
        assert error.code is Code.ENROL_PLAN
        assert "\n" not in str(error)
    else:
        assert found


@given(st.dictionaries(VEHICLES, TOKENS, min_size=1, max_size=5))
def test_tokens_are_read_as_they_were_written(tokens: dict[str, str]) -> None:
    assert decode_tokens(encode_tokens(tokens), "tokens.csv") == tokens


@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_refusal_repeats_a_token(junk: bytes, at: int) -> None:
    secret = "c2VjcmV0LXRoYXQtbm9ib2R5LXByaW50cw"
    data = encode_tokens({"PACK-1": secret, "PACK-2": secret[::-1]})
    try:
        decode_tokens(data[:at] + junk + data[at:], "tokens.csv")
    except FormatRefused as error:
        assert error.code is Code.ENROL_PLAN
        assert secret[:12] not in str(error)
