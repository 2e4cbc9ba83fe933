"""Boot of a 256 KiB app, ROM reset to the app's first instruction, in executed instructions.

Reference: what BearSSL alone executes in the same boot (a digest and two P-256 verifications each for
loader and app). Target: at most 64 million in all, without the random delays, and under 1 s of wall clock
in the emulator.
"""

import secrets
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from cellward.core.image import Version, build
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33, Stage
from cellward.vbms.bench import VirtualModule
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.packaged import packaged
from cellward.vbms.plant import Order, provision
from cellward.vbms.state import create

TARGET_MILLIONS = 64.0
TARGET_SECONDS = 1.0
APP_SIZE = 256 * 1024
ROUNDS = 7
ELVES = Path(__file__).resolve().parent.parent / "firmware" / "build" / "arm"


def bearssl_in(elf: Path) -> range:
    """The linker puts BearSSL's functions side by side; they start and end with a `br_` name."""
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection), f"{elf} was stripped"
        symbols = table.iter_symbols()
        ours = [s for s in symbols if s["st_info"]["type"] == "STT_FUNC" and s.name.startswith("br_")]
        return range(min(s["st_value"] for s in ours) & ~1, max(s["st_value"] + s["st_size"] for s in ours))


def images() -> tuple[bytes, dict[Stage, bytes]]:
    """The packaged loader and app, the app filled up to 256 KiB, signed by a key of this run."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = PublicKey.from_cryptography(key.public_key())
    payloads = {stage: packaged(f"{stage}-1.4.0.bin") for stage in Stage}
    payloads[Stage.APP] = payloads[Stage.APP].ljust(APP_SIZE, b"\xa5")
    signed = {}
    for stage, payload in payloads.items():
        hardware = (BMS_M33.vendor_id, BMS_M33.class_id(stage))
        unsigned = build(payload, version=Version(1, 4, 0), counter=0, hardware=hardware)
        signature = key.sign(unsigned.digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        signed[stage] = unsigned.signed(public, signature)
    return public.key_hash, signed


def count(state: Path) -> dict[str, int]:
    """Executed instructions of one boot; the app has none yet when it is reached."""
    module = VirtualModule(state, entropy=lambda: 0, exact=True)
    parts = {"BearSSL in the ROM": bearssl_in(ELVES / "rom.elf")}
    parts["BearSSL in the loader"] = bearssl_in(ELVES / "loader-1.4.0.elf")
    module.machine.counter = InstructionCounter(BMS_M33, parts)
    (report,) = module.power_on()  # one boot: the chain ran once
    at = {milestone.name: milestone.instructions for milestone in report.milestones}
    counted = module.machine.counter.by_region
    module.close()
    chain = {name: number for name, number in counted.items() if name != Stage.APP}
    # Behind the chain and before the app reports itself there is the app's own start-up code, no more.
    assert 0 <= at["app_entered"] - sum(chain.values()) <= counted[Stage.APP]
    return chain


def wall(state: Path) -> float:
    """Seconds from power-on to the app in charge, machine made anew."""
    began = time.perf_counter()
    module = VirtualModule(state)
    module.power_on()
    seconds = time.perf_counter() - began
    module.close()
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "module"
        create(state, BMS_M33, "BENCH")
        key_hash, signed = images()
        module = VirtualModule(state)
        provision(module, Order(BMS_M33, [key_hash], signed), secrets.token_bytes)
        module.close()
        again = state.with_name("again")  # a boot leaves its count behind
        shutil.copy(state, again)
        chain = count(state)
        assert chain == count(again), "instruction counts are repeatable"
        seconds = median(wall(state) for _ in range(ROUNDS))
    reference = sum(number for name, number in chain.items() if name.startswith("BearSSL"))
    total = sum(chain.values())
    print(f"{'boot, 256 KiB app, instructions':34}{'millions':>10}{'ratio':>8}")
    for name, number in [*chain.items(), ("BearSSL alone", reference), ("ROM reset to app", total)]:
        print(f"{name:34}{number / 1e6:10.3f}{number / reference:8.3f}")
    print(f"target: at most {TARGET_MILLIONS} million")
    print(f"wall clock, median of {ROUNDS}: {seconds:.2f} s; target: under {TARGET_SECONDS:.0f} s\n")


if __name__ == "__main__":
    main()
