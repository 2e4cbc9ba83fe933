import pytest

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused
from cellward.core.strictjson import MAX_DEPTH, MAX_INTEGER, SHA256_HEX, Fields
from tests.support.uptane import NOW


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nothing",
        b"\xff\xfe{\x00}\x00",  # UTF-16, which json.loads would guess from bytes
        b'"\xed\xa0\x80"',  # a surrogate in UTF-8
        b"\xef\xbb\xbf{}",  # a byte order mark
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"\\u0061":2}}',
        b"1.0",
        b"1e2",
        b"NaN",
        b"-Infinity",
        b"9007199254740992",
        b"-9007199254740992",
        b"1" * 5000,  # Python itself stops at 4300 digits
        b"[" * 20 + b"]" * 20,
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"[" * 100_000,
        b'["\\ud800"]',
        '["e\u0301"]'.encode(),  # not in NFC
        b'["e\\u0301"]',
        b'["a\nb"]',
        b"{} {}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        strictjson.decode(data, "thing", 200_000)
    assert caught.value.code is Code.METADATA_FORMAT
    assert caught.value.subject == "thing"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":[1,-1,true,null,"x"]}', {"a": [1, -1, True, None, "x"]}),
        (b"9007199254740991", MAX_INTEGER),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        ('["\u00e9 \\u00e9 \\ud83d\\udd0b"]'.encode(), ["\u00e9 \u00e9 \U0001f50b"]),
    ],
)
def test_taken(data: bytes, value: object) -> None:
    decoded = strictjson.decode(data, "thing", 100)
    assert value is None or decoded == value


def test_limit_is_in_bytes_and_exact() -> None:
    assert strictjson.decode(b'"ab"', "thing", 4) == "ab"
    with pytest.raises(FormatRefused) as caught:
        strictjson.decode(b'"abc"', "thing", 4)
    assert caught.value.code is Code.METADATA_TOO_LARGE


def test_one_level_too_many() -> None:
    deep = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
    with pytest.raises(FormatRefused):
        strictjson.decode(deep, "thing", 100)


@pytest.mark.parametrize(
    "text", ["2026-02-30T00:00:00Z", "2026-1-1T00:00:00Z", "2026-11-24T12:00:00+00:00", ""]
)
def test_times_refused(text: str) -> None:
    with pytest.raises(FormatRefused):
        strictjson.parse_time(text, "thing")


def test_times() -> None:
    assert strictjson.parse_time(strictjson.format_time(NOW), "thing") == NOW


@pytest.mark.parametrize(
    "read",
    [
        lambda f: f.text("missing"),
        lambda f: f.text("int"),
        lambda f: f.text("text", limit=3),
        lambda f: f.sha256("empty"),
        lambda f: f.integer("text"),
        lambda f: f.integer("true"),
        lambda f: f.integer("int", 5),
        lambda f: f.integer("int", 0, 3),
        lambda f: f.fields("list"),
        lambda f: f.optional_fields("list"),
        lambda f: f.items("text", 9),
        lambda f: f.items("list", 2),
        lambda f: f.texts("list", SHA256_HEX, 9),
        lambda f: f.texts("nothing", SHA256_HEX, 9),
        lambda f: f.time("text"),
        lambda f: Fields([], "list"),
        lambda f: f.finish(),
    ],
)
def test_every_read_is_typed_and_bounded(read) -> None:  # type: ignore[no-untyped-def]
    tree = {"text": "four", "int": 4, "true": True, "list": [1, 2, 3], "empty": {}, "nothing": []}
    with pytest.raises(FormatRefused) as caught:
        read(Fields(tree, "thing"))
    assert caught.value.code is Code.METADATA_FORMAT


def test_the_ends_of_the_ranges_are_taken() -> None:
    fields = Fields({"text": "four", "int": 4, "list": [1, 2, 3]}, "thing")
    assert fields.text("text", limit=4) == "four"
    assert fields.integer("int", 4, 4) == 4
    assert fields.items("list", 3) == [1, 2, 3]
    fields.finish()


def test_repeated_entries_are_refused() -> None:
    digest = "ab" * 32
    assert Fields({"a": [digest]}, "thing").texts("a", SHA256_HEX, 2) == (digest,)
    with pytest.raises(FormatRefused):
        Fields({"a": [digest, digest]}, "thing").texts("a", SHA256_HEX, 2)


def test_a_null_object_is_none() -> None:
    assert Fields({"a": None}, "thing").optional_fields("a") is None
    inner = Fields({"a": {"b": 1}}, "thing").optional_fields("a")
    assert inner is not None
    assert inner.integer("b") == 1


def test_hashes_are_sha256_and_nothing_else() -> None:
    digest = "ab" * 32
    assert Fields({"hashes": {"sha256": digest}}, "thing").sha256("hashes") == digest
    for hashes in ({"sha512": digest * 2}, {"sha256": digest, "md5": "00"}, {"sha256": digest.upper()}):
        with pytest.raises(FormatRefused):
            Fields({"hashes": hashes}, "thing").sha256("hashes")
