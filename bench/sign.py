"""Signing in this process beside the hash and the token's signature that it contains; and in a batch.

Targets: one image at most 1.2 times hash and token, the signing log's fsync apart; a batch of 1,000 images
at 90 % of the token's own rate. Every image is verified before it is given out, which takes as long as a
signature in SoftHSM, where the token is software on the same core; a token that takes 1 ms hides it.
"""

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 150
BATCH = 1000
SMALL, MEDIUM = 4096, 1024 * 1024
KEYS = {"firmware": "p256", "firmware-rsa": "rsa-3072", "firmware-ed": "ed25519"}

if TYPE_CHECKING:
    from cellward.ports.signer import Signer
    from cellward.sign.build import Label
    from cellward.sign.firmware import Firmware


def signers(folder: Path) -> dict[str, "Signer"]:
    """Of the embedded token, without the signing log."""
    from cellward import bootstrap
    from cellward.config import Home
    from cellward.core.keys import Algorithm

    store = bootstrap.key_store(Home(folder), bootstrap.default_token(), create=True)
    for label, algorithm in KEYS.items():
        store.create(label, Algorithm(algorithm))
    return {algorithm: store.signer(label) for label, algorithm in KEYS.items()}


def work(size: int, version: int = 0) -> tuple["Firmware", "Label"]:
    from cellward.core.image import Version
    from cellward.core.slots import BMS_M33, Stage
    from cellward.sign.build import Label
    from cellward.sign.firmware import read_firmware

    payload = random.Random(version).randbytes(size)
    read = read_firmware("app.bin", payload, BMS_M33, Stage.APP)
    return read, Label(Version(1, 4, version), 7, BMS_M33, Stage.APP)


def alternating(*works: Callable[[], object]) -> list[float]:
    """Median seconds of each, in turn."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for number, each in enumerate(works):
            start = time.perf_counter()
            each()
            taken[number].append(time.perf_counter() - start)
    return [median(times) for times in taken]


def single(signer: "Signer", size: int) -> None:
    from cellward.sign.build import sign_image

    firmware, label = work(size)
    reference, ours = alternating(
        lambda: signer.sign(hashlib.sha256(firmware.payload).digest()),
        lambda: sign_image(firmware, label, signer),
    )
    name = f"{signer.public_key.algorithm.display}, {size // 1024} KiB"
    print(f"{name:34}{reference * 1e6:12.0f}{ours * 1e6:12.0f}{ours / reference:8.2f}")


def rates(signer: "Signer", count: int) -> None:
    """Alternating, in parts of a batch, so that the machine's other work meets both."""
    from cellward.sign.build import sign_images

    batch = [work(SMALL, version) for version in range(count)]
    digests = [hashlib.sha256(firmware.payload).digest() for firmware, _ in batch]
    token = ours = 0.0
    for part in parts(count, 10):
        start = time.perf_counter()
        for digest in digests[part]:
            signer.sign(digest)
        middle = time.perf_counter()
        made = sum(1 for _ in sign_images(batch[part], signer))
        token, ours = token + middle - start, ours + time.perf_counter() - middle
        assert made == len(digests[part])
    name = f"{signer.public_key.algorithm.display}, {count} images of 4 KiB"
    print(f"{name:34}{count / token:12.0f}{count / ours:12.0f}{token / ours:8.2f}")


def parts(count: int, number: int) -> Iterator[slice]:
    step = count // number
    return (slice(start, start + step) for start in range(0, count, step))


def main() -> None:
    from cellward.core.slots import BMS_M33, Stage
    from cellward.sign.firmware import capacity

    with tempfile.TemporaryDirectory() as folder:
        held = signers(Path(folder))
        largest = capacity(BMS_M33, Stage.APP)
        print(f"{'one image, in process':34}{'token us':>12}{'cellward us':>12}{'ratio':>8}")
        for algorithm, size in (("p256", MEDIUM), ("p256", largest), ("ed25519", MEDIUM)):
            single(held[algorithm], size)
        single(held["rsa-3072"], MEDIUM)
        print(f"token: SHA-256 of the payload and the signature; medians of {ROUNDS}; target: at most 1.2\n")
        print(f"{'a batch':34}{'token /s':>12}{'cellward /s':>12}{'ratio':>8}")
        for algorithm in ("p256", "ed25519", "rsa-3072"):
            rates(held[algorithm], BATCH)
        print("token: signatures alone. Each image is verified as well. Target: at least 0.9")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    main()
