"""A process with a vault, which stops where its memory is to be looked at.

    python -m tests.support.vaultprocess FOLDER SECRET STEP…

FOLDER has the pack (tests.support.vault), SECRET is a file. After each step a line is written, and the next
one waits for a line.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cellward.adapters.lockedmemory import read_into
from cellward.core.errors import CellwardError
from cellward.core.keys import PublicKey
from cellward.core.packvault import MAX_VALUE
from cellward.device.vault import Vault, opened
from tests.support.packtpm import SwtpmDevice
from tests.support.vault import FIRST, Pack


def step(name: str, vault: Vault, pack: Pack, secret: Path, held: ExitStack) -> None:
    match name:
        case "put":
            with pack.place.memory.hold(MAX_VALUE) as view:
                vault.put("value", view[: read_into(secret, view)], exportable=True)
        case "get":
            held.enter_context(vault.get("value"))
        case "rotate":
            vault.rotate()
        case "export":
            vault.export(
                "value", PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
            )
        case "refused":
            with vault.get("value") as view:
                try:
                    vault.put("No Such Name", view)
                except CellwardError as error:
                    sys.stderr.write(repr(error))


def stop(name: str) -> None:
    sys.stdout.write(name + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main(folder: Path, secret: Path, steps: list[str]) -> None:
    pack = Pack(SwtpmDevice(folder / "tpm"), folder / "state")
    pack.device.tpm.pcr_extend(8, FIRST)
    with ExitStack() as held, opened(pack.place) as vault:
        for name in steps:
            step(name, vault, pack, secret, held)
            stop(name)
        held.close()
        stop("given back")
    stop("closed")
    pack.device.off()
    stop("off")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
