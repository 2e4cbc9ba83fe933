"""The C verifier on the host, kept running: one record in, one line out (firmware/README.md)."""

import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cellward.core.image import Trust
from tests.firmware.rig import FIRMWARE, built

VERIFY = FIRMWARE / "build" / "host" / "verify"
SLOTS = 4
# A finding of a sanitizer ends the process: the test sees an answer that does not come.
ENVIRONMENT = {"ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


@dataclass(frozen=True)
class Fuses:
    """What the C side holds against an image; `revoked` has bit n for slot n."""

    key_hashes: Sequence[bytes]
    counter: int
    vendor: bytes
    klass: bytes
    revoked: int = 0

    def encode(self, slot_size: int) -> bytes:
        keys = b"".join(self.key_hashes).ljust(32 * SLOTS, b"\0")
        return struct.pack("<III", slot_size, self.revoked, self.counter) + keys + self.vendor + self.klass

    def trust(self) -> Trust:
        """The same for core.image, which has no unburned slots: zeros are no key's hash."""
        burned = {n: key for n, key in enumerate(self.key_hashes) if any(key)}
        revoked = frozenset(key for n, key in burned.items() if self.revoked >> n & 1)
        return Trust(dict.fromkeys(burned.values()), revoked, self.counter, (self.vendor, self.klass))


@dataclass(frozen=True)
class Verdict:
    status: int
    code: str
    expected: int
    found: int


class HostVerifier:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def judge(self, image: bytes, fuses: Fuses, slot_size: int | None = None) -> Verdict:
        """`slot_size` None: the slot is exactly the image."""
        record = fuses.encode(len(image) if slot_size is None else slot_size) + image
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(struct.pack("<I", len(record)) + record)
        stdin.flush()
        line = stdout.readline().decode()
        assert line, "the verifier died: " + self._report()
        status, code, expected, found = line.split()
        return Verdict(int(status, 16), code, int(expected, 16), int(found, 16))

    def _report(self) -> str:
        stderr = self._process.stderr
        return stderr.read().decode() if stderr else ""


@contextmanager
def host_verifier() -> Iterator[HostVerifier]:
    built("host")
    process = subprocess.Popen(
        [VERIFY, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with process:
        yield HostVerifier(process)
        _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
