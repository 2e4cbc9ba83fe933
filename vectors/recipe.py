"""How the vectors are written: bytes as a list of parts, so that a file stays readable.

A part is {"hex": ...}, {"fill": "ff", "count": n} or {"base": name, "start": i, "end": j}, a slice of
one of the file's bases. The bytes of a case are its parts one after the other.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellward.core.image import Trust
from cellward.core.keys import PublicKey

HERE = Path(__file__).parent
FILES = ("image", "file")
Part = dict[str, Any]

_RUN = re.compile(rb"(?s)(.)\1{23,}")


@dataclass(frozen=True)
class TrustSpec:
    """What the verifier of a case holds: the slots of the fuses, or whole keys for a file's reader.

    `revoked` are indexes into `key_hashes`. None is not checked, which only a file's reader may say.
    """

    key_hashes: tuple[bytes, ...] = ()
    revoked: tuple[int, ...] = ()
    counter: int | None = None
    vendor: bytes | None = None
    klass: bytes | None = None
    keys: tuple[bytes, ...] = ()

    def trust(self) -> Trust:
        known: dict[bytes, PublicKey | None] = dict.fromkeys(self.key_hashes)
        known |= {(key := PublicKey(spki)).key_hash: key for spki in self.keys}
        pair = None if self.vendor is None or self.klass is None else (self.vendor, self.klass)
        return Trust(known, frozenset(self.key_hashes[i] for i in self.revoked), self.counter, pair)

    def to_json(self) -> dict[str, Any]:
        return {
            "key_hashes": [key_hash.hex() for key_hash in self.key_hashes],
            "revoked": list(self.revoked),
            "counter": self.counter,
            "vendor": self.vendor.hex() if self.vendor else None,
            "class": self.klass.hex() if self.klass else None,
            "keys": [key.hex() for key in self.keys],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrustSpec":
        def optional(text: str | None) -> bytes | None:
            return bytes.fromhex(text) if text else None

        return cls(
            tuple(bytes.fromhex(text) for text in value["key_hashes"]),
            tuple(value["revoked"]),
            value["counter"],
            optional(value["vendor"]),
            optional(value["class"]),
            tuple(bytes.fromhex(text) for text in value["keys"]),
        )


@dataclass(frozen=True)
class Case:
    """One vector. `verdict` is "ok" or the code of the refusal, for a slot that holds `data`.

    `file` is the verdict where `data` is a whole file, `erased` where erased flash (0xFF) follows it up
    to the 64 KiB of a loader's slot; each only where it differs. `attack` is a row of the attack list.
    """

    name: str
    data: bytes = field(repr=False)
    verdict: str
    reason: str
    trust: str = "device"
    file: str | None = None
    erased: str | None = None
    attack: str | None = None
    made_by: str = "cellward"


@dataclass(frozen=True)
class Vectors:
    """One file of vectors."""

    about: str
    bases: Mapping[str, bytes]
    trusts: Mapping[str, TrustSpec]
    cases: tuple[Case, ...]


def parts_of(data: bytes, bases: Mapping[str, bytes]) -> list[Part]:
    """The shortest recipe of a common start, other bytes and a common end with one of the bases."""
    name, start, end = "", 0, 0
    for candidate, base in bases.items():
        head = _common(data, base)
        tail = min(_common(data[::-1], base[::-1]), len(data) - head, len(base) - head)
        if head + tail > start + end:
            name, start, end = candidate, head, tail
    base = bases.get(name, b"")
    parts: list[Part] = [{"base": name, "start": 0, "end": start}] if start else []
    parts += _plain(data[start : len(data) - end])
    parts += [{"base": name, "start": len(base) - end, "end": len(base)}] if end else []
    return parts


def _common(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _plain(data: bytes) -> Iterator[Part]:
    at = 0
    for run in _RUN.finditer(data):
        if run.start() > at:
            yield {"hex": data[at : run.start()].hex()}
        yield {"fill": run[1].hex(), "count": run.end() - run.start()}
        at = run.end()
    if at < len(data):
        yield {"hex": data[at:].hex()}


def bytes_of(parts: list[Part], bases: Mapping[str, bytes]) -> bytes:
    out = b""
    for part in parts:
        if "hex" in part:
            out += bytes.fromhex(part["hex"])
        elif "fill" in part:
            out += bytes.fromhex(part["fill"]) * part["count"]
        else:
            out += bases[part["base"]][part["start"] : part["end"]]
    return out


_OPTIONAL = ("file", "erased", "attack")


def dump(vectors: Vectors) -> str:
    bases = {name: parts_of(data, {}) for name, data in vectors.bases.items()}
    cases = [
        {
            "name": case.name,
            "verdict": case.verdict,
            **{key: getattr(case, key) for key in _OPTIONAL if getattr(case, key) is not None},
            "reason": case.reason,
            "trust": case.trust,
            "made_by": case.made_by,
            "bytes": parts_of(case.data, vectors.bases),
        }
        for case in vectors.cases
    ]
    trusts = {name: spec.to_json() for name, spec in vectors.trusts.items()}
    rows = ",\n".join("  " + json.dumps(case) for case in cases)
    head = json.dumps({"about": vectors.about, "bases": bases, "trusts": trusts}, indent=1)
    return head.removesuffix("\n}") + ',\n "cases": [\n' + rows + "\n ]\n}\n"


def load(name: str) -> Vectors:
    value = json.loads((HERE / f"{name}.json").read_text())
    bases = {key: bytes_of(parts, {}) for key, parts in value["bases"].items()}
    cases = tuple(
        Case(
            row["name"],
            bytes_of(row["bytes"], bases),
            row["verdict"],
            row["reason"],
            row["trust"],
            row.get("file"),
            row.get("erased"),
            row.get("attack"),
            row["made_by"],
        )
        for row in value["cases"]
    )
    trusts = {key: TrustSpec.from_json(spec) for key, spec in value["trusts"].items()}
    return Vectors(value["about"], bases, trusts, cases)
