"""PKCS#11 URIs against libp11-kit, which GnuTLS, OpenSSH and systemd read them with."""

import ctypes
import ctypes.util
import string

from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import FormatRefused
from cellward.ports.token_uri import TokenUri

LABEL, ID = 0x003, 0x102  # CKA_LABEL, CKA_ID
ANY = 0xFFFF  # P11_KIT_URI_FOR_ANY
_NAME = ctypes.util.find_library("p11-kit")
assert _NAME, "tools/system/test.txt: p11-kit"
C = ctypes.CDLL(_NAME)
C.p11_kit_uri_new.restype = C.p11_kit_uri_get_attribute.restype = ctypes.c_void_p
for _read in ("module_path", "module_name", "pin_source"):
    getattr(C, f"p11_kit_uri_get_{_read}").restype = ctypes.c_char_p
C.p11_kit_uri_get_token_info.restype = ctypes.c_void_p


class Attribute(ctypes.Structure):
    _fields_ = (("type", ctypes.c_ulong), ("value", ctypes.c_void_p), ("length", ctypes.c_ulong))


class Theirs:
    """A URI of libp11-kit."""

    def __init__(self) -> None:
        self._uri = ctypes.c_void_p(C.p11_kit_uri_new())

    def __enter__(self) -> "Theirs":
        return self

    def __exit__(self, *_: object) -> None:
        C.p11_kit_uri_free(self._uri)

    def parse(self, text: str) -> bool:
        return int(C.p11_kit_uri_parse(text.encode(), ANY, self._uri)) == 0

    def format(self) -> str:
        text = ctypes.c_char_p()
        assert C.p11_kit_uri_format(self._uri, ANY, ctypes.byref(text)) == 0
        assert text.value is not None
        return text.value.decode()

    def set(self, kind: int, value: bytes) -> None:
        held = ctypes.create_string_buffer(value, len(value))
        attribute = Attribute(kind, ctypes.cast(held, ctypes.c_void_p), len(value))
        assert C.p11_kit_uri_set_attribute(self._uri, ctypes.byref(attribute)) == 0

    def attribute(self, kind: int) -> bytes | None:
        found = C.p11_kit_uri_get_attribute(self._uri, ctypes.c_ulong(kind))
        if not found:
            return None
        attribute = Attribute.from_address(found)
        return ctypes.string_at(attribute.value, attribute.length) if attribute.length else b""

    def token(self) -> tuple[bytes, ...]:
        """Label, manufacturer, model and serial of its CK_TOKEN_INFO, padded as they stand there."""
        raw = ctypes.string_at(C.p11_kit_uri_get_token_info(self._uri), 96)
        return raw[:32], raw[32:64], raw[64:80], raw[80:96]

    def text(self, name: str) -> bytes | None:
        value: bytes | None = getattr(C, f"p11_kit_uri_get_{name}")(self._uri)
        return value


LABELS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(LABELS, st.binary(max_size=20))
def test_what_they_write_we_read(label: str, key_id: bytes) -> None:
    with Theirs() as theirs:
        theirs.set(LABEL, label.encode())
        theirs.set(ID, key_id)
        assert TokenUri.parse(theirs.format()) == TokenUri(object=label, id=key_id)


PARTS = st.sampled_from(
    ["token", "object", "id", "serial", "model", "manufacturer", "type", "library-version", "slot-id"]
)
VALUES = st.text(string.ascii_letters + string.digits + "-._~:[]@!$'()*+,=&%2f;/ ", max_size=12)
QUERY = st.sampled_from(["module-path", "module-name", "pin-source"])


@given(
    st.lists(st.tuples(PARTS, VALUES), max_size=4, unique_by=lambda pair: pair[0]),
    st.lists(st.tuples(QUERY, VALUES | VALUES.map("/".__add__)), max_size=2, unique_by=lambda pair: pair[0]),
)
def test_what_we_take_they_take_and_as_the_same(
    path: list[tuple[str, str]], query: list[tuple[str, str]]
) -> None:
    text = "pkcs11:" + ";".join(map("=".join, path)) + "?" + "&".join(map("=".join, query))
    try:
        ours = TokenUri.parse(text)
    except FormatRefused:
        return
    with Theirs() as theirs:
        assert theirs.parse(text), text
        assert theirs.attribute(LABEL) == (None if ours.object is None else ours.object.encode())
        assert theirs.attribute(ID) == ours.id
        named = (ours.token, ours.manufacturer, ours.model, ours.serial)
        for mine, raw in zip(named, theirs.token(), strict=True):
            if mine is not None and raw.strip(b"\0 "):
                assert mine.encode() == raw.rstrip(b" "), text
        assert theirs.text("module_path") == (ours.module_path and ours.module_path.encode())
        assert theirs.text("module_name") == (ours.module_name and ours.module_name.encode())
        assert (theirs.text("pin_source") is None) is (ours.pin_source is None)
