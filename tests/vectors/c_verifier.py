"""The module's own verifier as a host process: one record in, one verdict out (firmware/README.md)."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from cellward.core import wire
from cellward.core.slots import OTP_SLOT_KEY_COUNT
from vectors.recipe import TrustSpec

FIRMWARE = Path(__file__).parents[2] / "firmware"
PROGRAM = FIRMWARE / "build" / "host" / "verify"


def build() -> None:
    """Make it; a no-op where it is up to date."""
    made = subprocess.run(
        ["make", "--no-print-directory", "-C", str(FIRMWARE), "host"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr


class CVerifier:
    """`verify --serve`, built with ASan and UBSan: a read outside the slot ends the process."""

    def __init__(self) -> None:
        build()
        self._process = subprocess.Popen(
            [str(PROGRAM), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        status = self._process.wait(timeout=30)
        assert status == 0 or error is not None, f"the C verifier ended with {status}"

    def verdict(self, data: bytes, trust: TrustSpec, slot_size: int = 0) -> str:
        """Of a slot of `slot_size` bytes that begins with `data` and is erased behind it; 0: no more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        record = b"".join(
            (
                wire.u32(slot_size),
                wire.u32(sum(1 << slot for slot in trust.revoked)),
                wire.u32(trust.counter or 0),
                b"".join(trust.key_hashes).ljust(32 * OTP_SLOT_KEY_COUNT, b"\x00"),
                (trust.vendor or b"").ljust(16, b"\x00"),
                (trust.klass or b"").ljust(16, b"\x00"),
                data,
            )
        )
        self._process.stdin.write(wire.u32(len(record)) + record)
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        assert len(answer) == 4, "the C verifier crashed on this image"
        return answer[1].decode()
