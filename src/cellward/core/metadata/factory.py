"""Factory data: what a pack controller leaves the plant with (E1; docs/formats/uptane.md)."""

import json
import re
from dataclasses import dataclass

from cryptography import x509

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import ROM_ALGORITHMS, PublicKey
from cellward.core.metadata.parse import parse_root
from cellward.core.metadata.roles import MAX_FACTORY_SIZE, Repository
from cellward.core.strictjson import Fields, refuse

MAX_URLS = 8
MAX_KEYS = 4
_URL = re.compile(r"https://[!-~]{1,240}", re.ASCII)
_PEM_LIMIT = 16 * 1024
OPTIONAL_KEYS = ("release_keys", "time_keys", "calibration_keys")
# The one mapping spoken here: every path must be signed by both repositories (B2). A map that asks
# for less would let one compromised repository install anything.
MAPPING = [{"paths": ["*"], "repositories": [str(Repository.DIRECTOR), str(Repository.IMAGE)]}]


@dataclass(frozen=True)
class Factory:
    """`server_ca`, `device_ca`: PEM certificates; `director_root`, `image_root`: signed root files;
    `firmware_keys`: whose images the modules boot; `director_urls`, `image_urls`, `enrol_urls`: https;
    `release_keys`: where there are some, only what they have released is installed;
    `time_keys`: where there are some, only what one of them attests is the time;
    `calibration_keys`: whose calibrations are applied; without any, none is;
    `server_ca_version`: no statement on server CAs before this one counts (core.serverca).
    """

    server_ca: bytes
    device_ca: bytes
    director_root: bytes
    image_root: bytes
    firmware_keys: tuple[PublicKey, ...]
    director_urls: tuple[str, ...]
    image_urls: tuple[str, ...]
    enrol_urls: tuple[str, ...] = ()
    release_keys: tuple[PublicKey, ...] = ()
    time_keys: tuple[PublicKey, ...] = ()
    calibration_keys: tuple[PublicKey, ...] = ()
    server_ca_version: int = 0

    @property
    def optional_keys(self) -> dict[str, tuple[PublicKey, ...]]:
        return {name: getattr(self, name) for name in OPTIONAL_KEYS}

    def root(self, repository: Repository) -> bytes:
        return self.director_root if repository is Repository.DIRECTOR else self.image_root


def encode_factory(factory: Factory) -> bytes:
    """Readable JSON. Raises FormatRefused for what `decode_factory` would refuse, TrustRefused
    (key.published) for keys that no device should be given."""
    for key in (*factory.firmware_keys, *(key for keys in factory.optional_keys.values() for key in keys)):
        key.unpublished("factory data")
    tree: dict[str, object] = {
        "server_ca": factory.server_ca.decode("ascii"),
        "device_ca": factory.device_ca.decode("ascii"),
        "director_root": parse_root(factory.director_root).to_dict(),
        "image_root": parse_root(factory.image_root).to_dict(),
        "firmware_keys": [key.pem().decode("ascii") for key in factory.firmware_keys],
        "map": {
            "repositories": {
                str(Repository.DIRECTOR): list(factory.director_urls),
                str(Repository.IMAGE): list(factory.image_urls),
            },
            "mapping": MAPPING,
        },
    }
    if factory.enrol_urls:
        tree["enrolment"] = list(factory.enrol_urls)
    if factory.server_ca_version:
        tree["server_ca_version"] = factory.server_ca_version
    for name, keys in factory.optional_keys.items():
        if keys:
            tree[name] = [key.pem().decode("ascii") for key in keys]
    data = json.dumps(tree, indent=1, sort_keys=True).encode("ascii") + b"\n"
    decode_factory(data)
    return data


def decode_factory(data: bytes) -> Factory:
    """Raises FormatRefused (metadata.format, metadata.too_large, key.format).

    The roots' signatures are checked by `core.trust.load`.
    """
    fields = Fields(strictjson.decode(data, "factory data", MAX_FACTORY_SIZE), "factory data")
    director_urls, image_urls = _map(fields.fields("map"))
    factory = Factory(
        server_ca=_certificate(fields, "server_ca"),
        device_ca=_certificate(fields, "device_ca"),
        director_root=_root(fields, "director_root"),
        image_root=_root(fields, "image_root"),
        firmware_keys=tuple(
            key.require(ROM_ALGORITHMS, "factory data firmware_keys")
            for key in _keys(fields, "firmware_keys")
        ),
        director_urls=director_urls,
        image_urls=image_urls,
        enrol_urls=fields.texts("enrolment", _URL, MAX_URLS) if "enrolment" in fields else (),
        server_ca_version=fields.integer("server_ca_version", 1) if "server_ca_version" in fields else 0,
        **{name: _keys(fields, name) for name in OPTIONAL_KEYS if name in fields},
    )
    fields.finish()
    return factory


def _map(fields: Fields) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if fields.value("mapping") != MAPPING:
        refuse(fields.what, "every path signed by director and image", "another mapping")
    repositories = fields.fields("repositories")
    urls = [repositories.texts(repository, _URL, MAX_URLS) for repository in Repository]
    repositories.finish()
    fields.finish()
    return urls[0], urls[1]


def _certificate(fields: Fields, name: str) -> bytes:
    pem = fields.text(name, limit=_PEM_LIMIT).encode()
    try:
        x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise FormatRefused(
            Code.METADATA_FORMAT,
            f"factory data {name}",
            expected="a certificate in PEM",
            found="something else",
        ) from error
    return pem


def _root(fields: Fields, name: str) -> bytes:
    data = json.dumps(fields.value(name), separators=(",", ":"), sort_keys=True).encode("ascii")
    try:
        return parse_root(data).to_bytes()
    except FormatRefused as error:
        raise error.about(f"factory data {name}") from error


def _keys(fields: Fields, name: str) -> tuple[PublicKey, ...]:
    pems = fields.items(name, MAX_KEYS)
    keys = tuple(PublicKey.from_pem(pem.encode()) for pem in pems if isinstance(pem, str))
    if not keys or len(set(keys)) != len(pems):
        refuse("factory data", f"different keys in PEM in {name!r}", "another list")
    return keys
