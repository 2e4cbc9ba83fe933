"""Plans as a spreadsheet or a manufacturing execution system writes them."""

import pytest

from cellward.core.enrolplan import NEEDED_BY_THE_PLANT, NEEDED_BY_THE_SERVER, Pack, decode, decode_tokens
from cellward.core.errors import Code, FormatRefused

DIGEST = "ab" * 32
GOOD = f"vehicle,state,modules,tpm,endorsement\nPACK-1,packs/1,m1|m2,device:/dev/tpmrm0,{DIGEST}\n"


def refused(text: str | bytes, needed: tuple[str, ...] = NEEDED_BY_THE_PLANT) -> FormatRefused:
    with pytest.raises(FormatRefused) as error:
        decode(text if isinstance(text, bytes) else text.encode(), "plan.csv", needed)
    assert error.value.code is Code.ENROL_PLAN
    return error.value


def test_a_line_is_a_pack() -> None:
    (pack,) = decode(GOOD.encode(), "plan.csv", NEEDED_BY_THE_PLANT)
    assert pack == Pack(2, "PACK-1", "packs/1", ("m1", "m2"), "device:/dev/tpmrm0", bytes.fromhex(DIGEST))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffvehicle;state;modules\r\nPACK-1;packs/1;m1\r\n",  # a spreadsheet's
        'modules,vehicle,state\n\n"m1 ","PACK-1"," packs/1"\n\n',
    ],
)
def test_what_programs_write(text: str) -> None:
    (pack,) = decode(text.encode(), "plan.csv", NEEDED_BY_THE_PLANT)
    assert (pack.vehicle, pack.state, pack.modules) == ("PACK-1", "packs/1", ("m1",))


def test_the_server_needs_the_vehicles_alone() -> None:
    assert decode(b"vehicle\nPACK-1\nPACK-2\n", "plan.csv", NEEDED_BY_THE_SERVER)[1].vehicle == "PACK-2"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "another"),
        ("vehicle,state,modules\n", "none"),
        ("vehicle,state\nPACK-1,packs/1\n", "another"),
        ("vehicle,state,modules,endorsment\nPACK-1,packs/1,m1,\n", "another"),  # a check spelled wrong
        ("vehicle,state,modules,state\nPACK-1,packs/1,m1,x\n", "another"),
        ("vehicle,state,modules\nPACK-1,packs/1\n", "2"),
        ("vehicle,state,modules\nPACK 1,packs/1,m1\n", "something else"),
        ("vehicle,state,modules\nPACK-1,,m1\n", "none"),
        ("vehicle,state,modules\nPACK-1,packs/1,|\n", "0"),
        ("vehicle,state,modules\nPACK-1,packs\x1b[2J,m1\n", "another"),
        ('vehicle,state,modules\nPACK-1,"packs,m1\n', "a quote that is none"),
        ("vehicle,endorsement,state,modules\nPACK-1,beef,packs/1,m1\n", "something else"),
        (b"vehicle,state,modules\nPACK-1,\xff,m1\n", "other bytes"),
        (b" " * (8 * 1024 * 1024 + 1), f"{8 * 1024 * 1024 + 1}"),
    ],
)
def test_what_is_no_plan(text: str | bytes, found: str) -> None:
    assert refused(text).found == found


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ("PACK-1,packs/2,m3,,", "vehicle PACK-1 in lines 2 and 3"),
        ("PACK-2,packs/1,m3,,", "state directory packs/1 in lines 2 and 3"),
        ("PACK-2,packs/2,m3|m2,,", "module m2 in lines 2 and 3"),
        ("PACK-2,packs/2,m3|m3,,", "module m3 in lines 3 and 3"),
        ("PACK-2,packs/2,m3,device:/dev/tpmrm0,", "TPM device:/dev/tpmrm0 in lines 2 and 3"),
        (f"PACK-2,packs/2,m3,,{DIGEST.upper()}", f"endorsement {DIGEST} in lines 2 and 3"),
    ],
)
def test_what_two_packs_cannot_share(second: str, found: str) -> None:
    assert refused(f"{GOOD}{second}\n").found == found


def test_a_token_is_of_one_vehicle() -> None:
    with pytest.raises(FormatRefused, match="PACK-1 again in line 3"):
        decode_tokens(b"vehicle,token\nPACK-1,abc\nPACK-1,def\n", "tokens.csv")
