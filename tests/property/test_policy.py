"""No bytes but a refusal or a profile."""

from hypothesis import given
from hypothesis import strategies as st

from cellward.core import kconfig, policy
from cellward.core.errors import FormatRefused

KEYS = [key for keys in policy.TABLES.values() for key in keys]
VALUES = ["none", "never", "open", "swap", "ecdsa-p256", "every-boot", "locked"]
LINES = st.one_of(
    st.sampled_from([f"[{table}]" for table in policy.TABLES]),
    st.builds(lambda key, value: f'{key} = "{value}"', st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.builds(lambda key, value: f"{key} = {value}", st.sampled_from(KEYS), st.integers() | st.booleans()),
    st.text(max_size=20),
)
SYMBOLS = [*kconfig.SIGNATURES, *kconfig.UPGRADES, *kconfig.DOWNGRADES, "BOOT_VALIDATE_SLOT0", "X"]
CONF_LINES = st.one_of(
    st.builds(
        lambda symbol, value: f"CONFIG_{symbol}={value}",
        st.sampled_from(SYMBOLS),
        st.sampled_from(["y", "n", "m", "3072", '"a\\"b"', "0x10 # comment", ""]),
    ),
    st.builds(lambda symbol: f"# CONFIG_{symbol} is not set", st.sampled_from(SYMBOLS)),
)


@given(st.lists(LINES, max_size=12).map("\n".join).map(str.encode) | st.binary(max_size=200))
def test_any_bytes_as_toml(data: bytes) -> None:
    try:
        found = policy.decode(data, "profile")
    except FormatRefused:
        return
    for finding in policy.lint(found):
        assert finding.reason


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_as_conf(data: bytes) -> None:
    try:
        found = kconfig.decode({"a.conf": data}, "target")
    except FormatRefused:
        return
    policy.lint(found)


@given(st.lists(CONF_LINES, max_size=12), st.integers(0, 12))
def test_two_files_are_one_after_the_other(lines: list[str], cut: int) -> None:
    """Whatever the values, each line of this grammar is read; files are joined in their order."""
    first, second = "\n".join(lines[:cut]), "\n".join(lines[cut:])
    whole = kconfig.decode({"all": "\n".join(lines).encode()}, "target")
    assert kconfig.decode({"1": first.encode(), "2": second.encode()}, "target") == whole
