#!/usr/bin/env python3
"""Add a set of published keys to core/published_keys.py, or remake the file with the sets it has.

    PYTHONPATH=src python3 tools/published_keys.py ["SET" FOLDER]

SET says where the keys are published; a set of that name is replaced, a new one comes last: of a key in two
sets the first is named. Every file of the folder is looked through for private keys, since it is the private
half that must be out: unencrypted PEM and DER, NIST's CAVP files (`[P-256…]`, `d = …`), and *.keys, a key a
line: name, what it is, hex. What it is: p256, p384, ed25519, ml-dsa-65, ml-dsa-87 with the scalar or seed; or
`public` with MCUboot's encoding, where only that could be read. Only fingerprints are written, and only of
algorithms that Cellward knows.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from cellward.core.errors import FormatRefused
from cellward.core.keys import P256_ORDER, PublicKey
from cellward.core.published_keys import TABLE

FILE = Path(__file__).parents[1] / "src" / "cellward" / "core" / "published_keys.py"
HEAD = '''"""Made by tools/published_keys.py; what the sets are: docs/published-keys.md.

Below the set's name a key a line: SHA-256 of MCUboot's encoding, and which key of the set. Text, for it is
read faster than code.
"""

TABLE = """
'''
GUESSABLE = "guessable: small scalars, plain patterns"
P384_ORDER = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
PEM = re.compile(rb"-----BEGIN (EC |RSA |)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)
CAVP = re.compile(r"^\[(P-256|P-384)?[^\]]*\]|^d = ([0-9a-f]+)", re.MULTILINE)


def of_scalar(curve: ec.EllipticCurve) -> Callable[[bytes], PublicKey]:
    def of(scalar: bytes) -> PublicKey:
        private = ec.derive_private_key(int.from_bytes(scalar, "big"), curve)
        return PublicKey.from_cryptography(private.public_key())

    return of


MAKERS: dict[str, Callable[[bytes], PublicKey]] = {
    "public": PublicKey,
    "p256": of_scalar(ec.SECP256R1()),
    "p384": of_scalar(ec.SECP384R1()),
    "ed25519": lambda seed: PublicKey.from_cryptography(
        ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    ),
    "ml-dsa-65": lambda seed: PublicKey.from_cryptography(
        mldsa.MLDSA65PrivateKey.from_seed_bytes(seed).public_key()
    ),
    "ml-dsa-87": lambda seed: PublicKey.from_cryptography(
        mldsa.MLDSA87PrivateKey.from_seed_bytes(seed).public_key()
    ),
}


def guessable() -> Iterator[tuple[str, PublicKey]]:
    """Of no publication, but nobody needs one: k·G for small k of either sign, and seeds without a choice."""
    for kind, order, size in (("p256", P256_ORDER, 32), ("p384", P384_ORDER, 48)):
        for k in range(1, 17):
            for name, scalar in ((f"{k}·G", k), (f"(n-{k})·G", order - k)):
                yield f"{kind} {name}", MAKERS[kind](scalar.to_bytes(size, "big"))
    for kind, size in (("p256", 32), ("p384", 48), ("ed25519", 32), ("ml-dsa-65", 32), ("ml-dsa-87", 32)):
        repeated = (0x00, 0x01, 0x11, 0x55, 0xAA, 0xFF)
        patterns = {f"{byte:02x} repeated": bytes([byte]) * size for byte in repeated}
        patterns |= {f"{first:02x} counting": bytes(range(first, first + size)) for first in (0, 1)}
        for name, secret in patterns.items():
            if kind in ("p256", "p384") and name in ("00 repeated", "ff repeated"):
                continue  # no scalars of their curves
            yield f"{kind} {name}", MAKERS[kind](secret)


def read(file: Path) -> Iterator[tuple[str, PublicKey]]:
    data = file.read_bytes()
    if file.suffix == ".keys":
        for line in data.decode().splitlines():
            name, kind, value = line.rsplit(maxsplit=2)
            yield name, MAKERS[kind](bytes.fromhex(value))
        return
    if file.suffix == ".der":
        yield from _private("", data, serialization.load_der_private_key)
    for number, found in enumerate(PEM.finditer(data)):
        yield from _private(f"#{number + 1}" if number else "", found[0], serialization.load_pem_private_key)
    if data.startswith(b"#  CAVS"):
        yield from _cavp(data.decode())


def _private(name: str, data: bytes, load: Callable[..., object]) -> Iterator[tuple[str, PublicKey]]:
    try:
        yield name, PublicKey.from_cryptography(load(data, None).public_key())  # type: ignore[attr-defined]
    except (ValueError, TypeError, UnsupportedAlgorithm, FormatRefused):
        return  # malformed on purpose, encrypted, or of an algorithm that is none of ours


def _cavp(text: str) -> Iterator[tuple[str, PublicKey]]:
    curve, number = "", 0
    for found in CAVP.finditer(text):
        if not found[2]:
            # [B.4.2 …] below [P-256] is a heading of the same curve.
            curve = curve if found[0].startswith("[B.4") else found[1] or ""
        elif curve:
            kind, number = curve.lower().replace("-", ""), number + 1
            secret = bytes.fromhex(found[2].zfill(64 if kind == "p256" else 96))
            yield f" {curve} #{number}", MAKERS[kind](secret)


def collect(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for name, key in read(file):
            whole = name if file.suffix == ".keys" else f"{file.relative_to(folder)}{name}"
            found.setdefault(key.fingerprint, whole)
    return found


def render(sets: dict[str, dict[str, str]]) -> str:
    lines = []
    for title, keys in sets.items():
        lines.append(f"[{title}]\n")
        lines += [f"{print_} {name}\n" for print_, name in sorted(keys.items(), key=lambda row: row[::-1])]
    return HEAD + "".join(lines) + '"""\n'


def sets_of(table: str) -> dict[str, dict[str, str]]:
    sets: dict[str, dict[str, str]] = {}
    for block in table.split("\n[")[1:]:
        title, *rows = block.removesuffix("\n").split("\n")
        sets[title.removesuffix("]")] = dict(row.split(" ", 1) for row in rows)
    return sets


def main(arguments: list[str]) -> None:
    sets = {**sets_of(TABLE), GUESSABLE: {key.fingerprint: name for name, key in guessable()}}
    if arguments:
        title, folder = arguments
        sets[title] = collect(Path(folder))
        print(f"{title}: {len(sets[title])} keys")
    FILE.write_text(render(sets))


if __name__ == "__main__":
    main(sys.argv[1:])
