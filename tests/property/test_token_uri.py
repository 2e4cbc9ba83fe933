"""PKCS#11 URIs: any text is understood or refused, and no refusal repeats a value."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, FormatRefused
from cellward.ports.token_uri import TokenUri

SECRET = "31415926"
ATTRIBUTES = st.sampled_from(
    ["token", "object", "id", "serial", "model", "pin-source", "module-path", "slot-id", "x", ""]
)


@given(st.text(max_size=80) | st.text(string.printable, max_size=80).map("pkcs11:".__add__))
def test_any_text(text: str) -> None:
    try:
        TokenUri.parse(text)
    except FormatRefused as error:
        assert error.code is Code.TOKEN_URI


@given(
    st.lists(st.tuples(ATTRIBUTES, st.text(string.printable, max_size=8)), max_size=4), st.sampled_from("?;&")
)
def test_a_pin_in_the_uri_is_never_repeated(pairs: list[tuple[str, str]], separator: str) -> None:
    text = "pkcs11:" + ";".join(f"{name}={value}" for name, value in pairs)
    with pytest.raises(FormatRefused) as error:
        TokenUri.parse(f"{text}{separator}pin-value={SECRET}")
    assert SECRET not in str(error.value)


@given(st.text(max_size=20), st.binary(max_size=20))
def test_every_label_and_id_can_be_said(label: str, key_id: bytes) -> None:
    try:
        escaped = "".join(f"%{byte:02x}" for byte in label.encode())
    except UnicodeEncodeError:
        return
    uri = f"pkcs11:object={escaped};id=" + "".join(f"%{byte:02X}" for byte in key_id)
    if "\0" in label:
        return
    assert TokenUri.parse(uri) == TokenUri(object=label, id=key_id)
