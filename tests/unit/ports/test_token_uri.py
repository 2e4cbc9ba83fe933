"""PKCS#11 URIs (RFC 7512): the attributes that are understood, and the forms that are refused."""

import pytest

from cellward.core.errors import Code, FormatRefused
from cellward.ports.token_uri import MAX_URI, TokenUri


def test_every_attribute() -> None:
    uri = TokenUri.parse(
        "pkcs11:token=My%20token;serial=abc;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;"
        "object=firm%3Bware;id=%01%fF;type=private;slot-id=1234567890;slot-description=SoftHSM%20slot;"
        "slot-manufacturer=a;library-manufacturer=b;library-description=c;library-version=2.6"
        "?module-path=/usr/lib/x.so&module-name=softhsm2&pin-source=file:/run/pin"
    )
    assert uri == TokenUri(
        token="My token",
        serial="abc",
        manufacturer="SoftHSM project",
        model="SoftHSM v2",
        object="firm;ware",
        id=b"\x01\xff",
        slot_id=1234567890,
        slot_description="SoftHSM slot",
        slot_manufacturer="a",
        library_manufacturer="b",
        library_description="c",
        library_version=(2, 6),
        module_path="/usr/lib/x.so",
        module_name="softhsm2",
        pin_source="/run/pin",
    )


def test_the_rfc_s_own_examples() -> None:
    """RFC 7512, section 3; those of another type or with a PIN are refused for what they are."""
    uri = TokenUri.parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
        "object=my-certificate;id=%69%95%3E%5C%F4%BD%EC%91"
    )
    assert uri.token == "The Software PKCS#11 Softtoken"
    assert uri.manufacturer == "Snake Oil, Inc."
    assert uri.id == bytes.fromhex("69953e5cf4bdec91")
    assert TokenUri.parse("pkcs11:slot-description=Sun%20Metaslot").slot_description == "Sun Metaslot"
    uri = TokenUri.parse("pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-version=3")
    assert uri.library_version == (3, 0)
    assert TokenUri.parse("PKCS11:object=x") == TokenUri(object="x"), "a scheme has no case (RFC 3986, 3.1)"


@pytest.mark.parametrize("source", ["file:/run/pin", "file:///run/pin", "/run/pin", "%2Frun%2Fpin"])
def test_forms_of_a_pin_file(source: str) -> None:
    assert TokenUri.parse(f"pkcs11:?pin-source={source}").pin_source == "/run/pin"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:/key.pem",
        "pkcs11:token",
        "pkcs11:token=a;token=b",
        "pkcs11:token=a;;object=b",
        "pkcs11:slot-id=x",
        "pkcs11:slot-id=-1",
        "pkcs11:library-version=2.x",
        "pkcs11:library-version=",
        "pkcs11:x-vendor=1",
        "pkcs11:token=a b",
        "pkcs11:token=a/b",
        "pkcs11:?x-vendor=1",
        "pkcs11:?token=x",
        'pkcs11:?module-path=/a"b',
        "pkcs11:?module-path=",
        "pkcs11:?module-path=x.so",
        "pkcs11:?module-path=file:/usr/lib/x.so",
        "pkcs11:?module-name=../x",
        "pkcs11:?module-name=a*b",
        "pkcs11:?module-name=.so",
        "pkcs11:token=%4",
        "pkcs11:token=%zz",
        "pkcs11:token=%ff",
        "pkcs11:token=%00",
        "pkcs11:token=ümlaut",
        "pkcs11:token=a\nobject=b",
        "pkcs11:token=a#fragment",
        "pkcs11:type=cert",
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
    assert TokenUri.parse("pkcs11:slot-id=0").token_name == "token in slot 0"
    assert TokenUri.parse("pkcs11:").token_name == "token of any name"
