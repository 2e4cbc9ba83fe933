"""`cellward image sign` of 1 MiB as a whole process, beside the bare PKCS#11 signature it contains.

Target: at most 1.3 times the reference (`_pkcs11_signature.py`). imgtool signs with a key in a file.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

TARGET = 1.3
ROUNDS = 15
FIRMWARE_SIZE = 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent
CELLWARD = [sys.executable, "-c", "from cellward.cli.main import run; run()"]  # the installed script's body


@dataclass
class Series:
    """One command, and what each run of it took: wall clock and processor, in milliseconds."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self) -> None:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(self.command, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        self.wall.append(wall * 1e3)
        self.cpu.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3)


def prepare(folder: Path) -> list[Series]:
    """A token with keys, 1 MiB of firmware, and the three commands."""
    from cellward.adapters.pkcs11 import softhsm

    home, firmware = folder / "home", folder / "app.bin"
    firmware.write_bytes(random.Random(1).randbytes(FIRMWARE_SIZE))
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "CELLWARD_DATA": str(home)}
    subprocess.run([*CELLWARD, "keys", "init"], env=base, check=True, stdout=subprocess.DEVNULL)
    token = {
        "CELLWARD_PKCS11_MODULE": softhsm.library(),
        "SOFTHSM2_CONF": str(home / "softhsm2.conf"),
        "CELLWARD_PIN": (home / "pin").read_text().strip(),
    }
    options = ["--version", "1.4.0", "--counter", "7", "--hardware", "bms-m33"]
    sign = [*CELLWARD, "image", "sign", str(firmware), *options, "-o", str(folder / "cellward.img")]
    bare = [sys.executable, str(Path(__file__).with_name("_pkcs11_signature.py")), str(firmware)]
    pem = str(folder / "key.pem")
    imgtool = [str(Path(sys.executable).with_name("imgtool"))]
    subprocess.run([*imgtool, "keygen", "-t", "ecdsa-p256", "-k", pem], env=base, check=True)
    imgtool += ["sign", "--key", pem, "--version", "1.4.0", "--header-size", "0x200", "--pad-header"]
    imgtool += ["--align", "8", "--slot-size", str(1976 * 1024), "--security-counter", "7"]
    imgtool += [str(firmware), str(folder / "imgtool.img")]
    return [
        Series("PKCS#11 signature alone", bare, base | token),
        Series("cellward image sign", sign, base),
        Series("imgtool sign, key in a file", imgtool, base),
    ]


def table(rows: list[Series]) -> str:
    reference = rows[0]
    lines = [f"{'image sign, 1 MiB, whole process':34}{'wall ms':>9}{'min':>8}{'cpu ms':>9}{'ratio':>8}"]
    for row in rows:
        ratio = median(row.wall) / median(reference.wall)
        figures = f"{median(row.wall):9.1f}{min(row.wall):8.1f}{median(row.cpu):9.1f}{ratio:8.2f}"
        lines.append(f"{row.name:34}{figures}")
    lines.append(f"medians of {ROUNDS} alternating runs; target: ratio of at most {TARGET}")
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = prepare(Path(folder))
        for row in rows:
            row.run()  # fills the caches
            row.wall.clear()
            row.cpu.clear()
        for _ in range(ROUNDS):
            for row in rows:
                row.run()
        print(table(rows))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    main()
