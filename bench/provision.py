"""The plant's line for one module: fuses, secret, registration, first images, boot, proof, closed.

Reference: a boot of the same module from no power, which the line contains once. Target: under 1 s a module,
the whole command with the start of Python and the sync of the registration.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.image import Version, build
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33, Lifecycle, Stage
from cellward.vbms.bench import VirtualModule
from cellward.vbms.packaged import packaged
from cellward.vbms.state import create

TARGET_SECONDS = 1.0
MODULES = 9
COMMAND = (sys.executable, "-m", "cellward.cli.main", "module", "provision")


def material(folder: Path) -> tuple[str, ...]:
    """Key hash and signed images of this run, as the command's options."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = PublicKey.from_cryptography(key.public_key())
    options = ["--firmware-key", public.key_hash.hex()]
    for stage in Stage:
        hardware = (BMS_M33.vendor_id, BMS_M33.class_id(stage))
        unsigned = build(
            packaged(f"{stage}-1.4.0.bin"), version=Version(1, 4, 0), counter=7, hardware=hardware
        )
        signature = key.sign(unsigned.digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        path = folder / f"{stage}.img"
        path.write_bytes(unsigned.signed(public, signature))
        options += [f"--{stage}", str(path)]
    return tuple(options)


def blank(folder: Path, number: int) -> Path:
    state = folder / f"{number}.module"
    create(state, BMS_M33, f"BENCH{number}")
    return state


def command(state: Path, options: tuple[str, ...], close: str) -> None:
    register = ("--register", str(state.with_suffix(".registration")))
    subprocess.run(
        [*COMMAND, "--state", str(state), *options, *register, close], check=True, stdout=subprocess.DEVNULL
    )


def boot(state: Path) -> None:
    module = VirtualModule(state)
    module.power_on()
    module.close()


def lifecycle(state: Path) -> Lifecycle:
    module = VirtualModule(state)
    found = module.status().lifecycle
    module.close()
    return found


def timed(does: Callable[[], object]) -> float:
    began = time.perf_counter()
    does()
    return time.perf_counter() - began


def line(folder: Path, options: tuple[str, ...], close: str, first: int) -> list[float]:
    """Each module's seconds."""
    states = [blank(folder, number) for number in range(first, first + MODULES)]
    return [timed(partial(command, state, options, close)) for state in states]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = material(folder)
        opened = line(folder, options, "--keep-open", 0)
        closed = line(folder, options, "--close", MODULES)
        last = folder / f"{2 * MODULES - 1}.module"
        assert lifecycle(last) is Lifecycle.PRODUCTION
        again = [timed(lambda: command(last, options, "--close")) for _ in range(MODULES)]
        boots = [timed(lambda: boot(last)) for _ in range(MODULES)]
    reference = median(boots)
    print(f"{'provision, seconds a module':40}{'median':>8}{'worst':>8}{'ratio':>8}")
    for title, seconds in (
        ("the whole line, closed", closed),
        ("kept open: without boot and proof", opened),
        ("the line again, on a finished module", again),
        ("one boot from no power", boots),
    ):
        print(f"{title:40}{median(seconds):8.3f}{max(seconds):8.3f}{median(seconds) / reference:8.2f}")
    print(f"target: under {TARGET_SECONDS:.0f} s a module, median of {MODULES} modules\n")


if __name__ == "__main__":
    main()
