"""PKCS#11 URIs (RFC 7512): the attributes that are understood, and the forms that are refused."""

import pytest

from cellward.core.errors import Code, FormatRefused
from cellward.ports.token_uri import MAX_URI, TokenUri


def test_every_attribute() -> None:
    uri = TokenUri.parse(
        "pkcs11:token=My%20token;serial=abc;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;"
        "object=firm%3Bware;id=%01%fF;type=private?module-path=/usr/lib/x.so&pin-source=file:/run/pin"
    )
    assert uri == TokenUri(
        token="My token",
        serial="abc",
        manufacturer="SoftHSM project",
        model="SoftHSM v2",
        object="firm;ware",
        id=b"\x01\xff",
        module_path="/usr/lib/x.so",
        pin_source="/run/pin",
    )


@pytest.mark.parametrize("source", ["file:/run/pin", "file:///run/pin", "/run/pin", "%2Frun%2Fpin"])
def test_forms_of_a_pin_file(source: str) -> None:
    assert TokenUri.parse(f"pkcs11:?pin-source={source}").pin_source == "/run/pin"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:/key.pem",
        "PKCS11:token=x",
        "pkcs11:token",
        "pkcs11:token=a;token=b",
        "pkcs11:token=a;;object=b",
        "pkcs11:slot-id=1",
        "pkcs11:token=%4",
        "pkcs11:token=%zz",
        "pkcs11:token=%ff",
        "pkcs11:token=%00",
        "pkcs11:token=ümlaut",
        "pkcs11:token=a\nobject=b",
        "pkcs11:token=a#fragment",
        "pkcs11:type=cert",
        "pkcs11:?module-name=x",
        "pkcs11:?pin-source=|cat",
        "pkcs11:?pin-source=relative",
        "pkcs11:?pin-source=file://host/run/pin",
        "pkcs11:?pin-source=",
        "pkcs11:token=" + "x" * MAX_URI,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(FormatRefused) as error:
        TokenUri.parse(text)
    assert error.value.code is Code.TOKEN_URI


@pytest.mark.parametrize("text", ["pkcs11:token=x?pin-value=314159", "pkcs11:pin-value=314159"])
def test_a_pin_in_the_uri_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(FormatRefused) as error:
        TokenUri.parse(text)
    assert "pin-value" in error.value.found
    assert "CELLWARD_PIN" in error.value.advice
    assert "314159" not in str(error.value)


def test_names_for_people() -> None:
    assert TokenUri.parse("pkcs11:token=t;object=o").token_name == "token t"
    assert TokenUri.parse("pkcs11:id=%01").key_name == "key 01"
    assert TokenUri.parse("pkcs11:").token_name == "token of any name"
