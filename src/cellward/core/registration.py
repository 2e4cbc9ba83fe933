"""What the maker keeps of a module: its line at the plant writes it, a verifier of boot records reads it.

A JSON object; its symmetric keys are secrets, so the file is for its owner alone. Of the device
secret it never holds more than `half`: while the fuses are being burned, the plant keeps one half of a
one-time pad and the module the other (vbms/plantsecret.py).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import DIGEST_SIZE, Algorithm, PublicKey
from cellward.core.ladder import KEY_SIZE, SECRET_SIZE, RegisteredKeys
from cellward.core.slots import OTP_SERIAL, OTP_SLOT_KEY_COUNT, Stage

FORMAT = "cellward registration v1"
LIMIT = 16 * 1024
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_NAMES = {
    "format",
    "serial",
    "hardware",
    "slot_keys",
    "development",
    "root_quorum",
    "images",
    "rom_record",
    "loader_record",
    "report",
    "update",
    "half",
}


@dataclass(frozen=True)
class Registration:
    """One module as it left its line. `images` maps each stage to the SHA-256 of the whole image that
    was installed; `development` has a bit for each slot; `half` is empty once the secret is burned."""

    serial: str
    hardware: str
    slot_keys: tuple[bytes, ...]
    development: int
    root_quorum: bytes
    images: Mapping[Stage, bytes]
    keys: RegisteredKeys
    half: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        tree = {
            "format": FORMAT,
            "serial": self.serial,
            "hardware": self.hardware,
            "slot_keys": [key.hex() for key in self.slot_keys],
            "development": self.development,
            "root_quorum": self.root_quorum.hex(),
            "images": {str(stage): digest.hex() for stage, digest in self.images.items()},
            "rom_record": self.keys.rom_record.hex(),
            "loader_record": self.keys.loader_record.hex(),
            "report": self.keys.report.hex(),
            "update": self.keys.update.spki.hex(),
            "half": self.half.hex(),
        }
        return json.dumps(tree, indent=1).encode() + b"\n"


def decode(data: bytes) -> Registration:
    """Raises FormatRefused (key.format) for anything but what `encode` makes."""
    tree = _object(data)
    images = tree["images"]
    if not isinstance(images, dict) or set(images) != {str(stage) for stage in Stage}:
        raise _malformed("a digest for each stage", "others")
    slots = tree["slot_keys"]
    if not isinstance(slots, list) or not 1 <= len(slots) <= OTP_SLOT_KEY_COUNT:
        raise _malformed(f"1 to {OTP_SLOT_KEY_COUNT} slot keys", "others")
    development = tree["development"]
    if type(development) is not int or not 0 <= development < 1 << len(slots):
        raise _malformed("development bits of the slots", "others")
    return Registration(
        serial=_text(tree["serial"], OTP_SERIAL.size),
        hardware=_text(tree["hardware"], 32),
        slot_keys=tuple(_bytes(key, DIGEST_SIZE) for key in slots),
        development=development,
        root_quorum=_bytes(tree["root_quorum"], DIGEST_SIZE),
        images={stage: _bytes(images[stage], DIGEST_SIZE) for stage in Stage},
        keys=RegisteredKeys(
            rom_record=_bytes(tree["rom_record"], KEY_SIZE),
            loader_record=_bytes(tree["loader_record"], KEY_SIZE),
            report=_bytes(tree["report"], KEY_SIZE),
            update=PublicKey(_bytes(tree["update"])).require([Algorithm.P256], "update key"),
        ),
        half=_bytes(tree["half"], SECRET_SIZE) if tree["half"] != "" else b"",
    )


def _object(data: bytes) -> dict[str, object]:
    if len(data) > LIMIT:
        raise _malformed(f"at most {LIMIT} bytes", f"{len(data)}")
    try:
        tree = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _malformed("JSON in UTF-8", "something else") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise _malformed(f"format {FORMAT!r}", "another")
    if set(tree) != _NAMES:
        raise _malformed("its twelve fields", f"{len(tree)} others")
    return tree


def _once(items: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(items)
    if len(found) != len(items):
        raise _malformed("every name once", "a duplicate name")
    return found


def _text(value: object, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise _malformed(f"1 to {limit} printable characters", "others")
    return value


def _bytes(value: object, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise _malformed("hex digits", "others")
    data = bytes.fromhex(value)
    if size is not None and len(data) != size:
        raise _malformed(f"{size} bytes", f"{len(data)}")
    return data


def _malformed(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.KEY_FORMAT, "registration", expected=expected, found=found)
