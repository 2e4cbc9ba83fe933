import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from cellward.core import trust
from cellward.core.errors import Code, FormatRefused
from cellward.core.metadata import Factory, Repository, Role, decode_factory, encode_factory
from cellward.core.metadata.factory import OPTIONAL_KEYS
from tests.support.pemfile import of_another_version
from tests.support.uptane import DIRECTOR_OWNER, IMAGE_OWNER, NOW, holder


def certificate(name: str) -> bytes:
    key = holder(name).private
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + timedelta(days=9))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


FACTORY = Factory(
    server_ca=certificate("server-ca"),
    device_ca=certificate("device-ca"),
    director_root=DIRECTOR_OWNER.root(),
    image_root=IMAGE_OWNER.root(),
    firmware_keys=(holder("firmware").public_key,),
    director_urls=("https://devices.test:8443/v1/director",),
    image_urls=("https://devices.test:8443/v1/image",),
)
DATA = encode_factory(FACTORY)


def test_there_and_back() -> None:
    factory = decode_factory(DATA)
    assert factory == FACTORY
    for repository in Repository:
        state = trust.load(repository, {Role.ROOT: factory.root(repository)})
        assert state.version(Role.ROOT) == 1


def test_the_enrolment_listener_may_be_named() -> None:
    urls = ("https://enrol.test:8444/v1/enrol",)
    assert decode_factory(encode_factory(replace(FACTORY, enrol_urls=urls))).enrol_urls == urls
    assert "enrolment" not in json.loads(DATA)


@pytest.mark.parametrize("name", OPTIONAL_KEYS)
def test_keys_that_may_be_named(name: str) -> None:
    keys = holder("one").public_key, holder("two").public_key
    named = replace(FACTORY, **{name: keys})  # type: ignore[arg-type]
    assert decode_factory(encode_factory(named)) == named
    assert name not in json.loads(DATA)


def test_the_form_of_the_document() -> None:
    tree = json.loads(DATA)
    assert tree.keys() == {"server_ca", "device_ca", "director_root", "image_root", "firmware_keys", "map"}
    assert tree["map"]["mapping"] == [{"paths": ["*"], "repositories": ["director", "image"]}]
    assert tree["image_root"] == json.loads(FACTORY.image_root)


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *steps, last, value = path

    def change(tree: dict[str, Any]) -> None:
        node: Any = tree
        for step in steps:
            node = node[step]
        node[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("server_ca", "not a certificate"),
        put("server_ca", of_another_version(certificate("server-ca")).decode()),
        put("device_ca", 5),
        put("device_ca", "é"),
        put("director_root", {}),
        put("image_root", "signed", "version", 0),
        put("firmware_keys", []),
        put("firmware_keys", [5]),
        put("firmware_keys", [FACTORY.firmware_keys[0].pem().decode()] * 2),
        put("extra", 1),
        put("enrolment", []),
        put("enrolment", ["http://plain.test"]),
        put("map", "extra", 1),
        put("map", "repositories", "third", ["https://x"]),
        put("map", "repositories", {"image": ["https://x"]}),
        put("map", "repositories", "image", []),
        put("map", "repositories", "image", ["http://plain.test"]),
        put("map", "mapping", []),
        # The attack: the image repository alone, or the Director alone, would be enough.
        put("map", "mapping", [{"paths": ["*"], "repositories": ["director"]}]),
        put("map", "mapping", 0, "repositories", ["image"]),
        put("map", "mapping", 0, "paths", ["bms-m33/*"]),
        put("map", "mapping", 0, "terminating", True),
    ],
)
def test_malformed(change: Callable[[dict[str, Any]], None]) -> None:
    tree = json.loads(DATA)
    change(tree)
    with pytest.raises(FormatRefused) as caught:
        decode_factory(json.dumps(tree).encode())
    assert caught.value.code is Code.METADATA_FORMAT


def test_a_firmware_key_of_another_kind() -> None:
    tree = json.loads(DATA)
    tree["firmware_keys"] = ["-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"]
    with pytest.raises(FormatRefused) as caught:
        decode_factory(json.dumps(tree).encode())
    assert caught.value.code is Code.KEY_FORMAT


def test_nothing_is_written_that_would_not_be_read() -> None:
    with pytest.raises(FormatRefused):
        encode_factory(replace(FACTORY, image_urls=()))
