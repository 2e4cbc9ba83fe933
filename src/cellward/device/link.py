"""The pack controller's end of the update link: one module, one question after the other."""

from collections.abc import Iterator

from cellward.core import bootrecord, wire
from cellward.core.errors import Code, ModuleRefused
from cellward.core.slots import Stage
from cellward.core.vault import Name
from cellward.ports.module import Module, ModuleStatus, Outcome
from cellward.ports.updatelink import DATA_UNIT, Dialogue, Request
from cellward.ports.updatevalues import (
    Answerer,
    Identity,
    StageDigest,
    decode_digest,
    decode_identity,
    encode_digest_request,
    encode_image_request,
)

NO_ORDER = bytes(4)


class UpdateLink:
    """Every method raises ModuleRefused with the code that the module answered with, FormatRefused for an
    answer that is none, Unavailable (link.silent, module.*) where none comes."""

    def __init__(self, module: Module, serial: str) -> None:
        self._dialogue = Dialogue(module.exchange, f"module {serial}")
        self._serial = serial

    def identity(self) -> Identity:
        return decode_identity(self._dialogue.ask(Request.IDENTIFY))

    def digest(self, stage: Stage, *, other: bool = False) -> StageDigest | None:
        """Of what lies in the running bank, or in the other one; None where no image does."""
        try:
            return decode_digest(self._dialogue.ask(Request.DIGEST, encode_digest_request(other, stage)))
        except ModuleRefused as error:
            if error.code is Code.BANK_NOT_BOOTABLE:
                return None
            raise

    def boot_records(self) -> bytes:
        """The ROM's and the loader's, as they measured this boot; only the app tells, and it may be lying:
        empty for an app that will not, or tells something else."""
        try:
            records = self._dialogue.ask(Request.BOOT_RECORD)
        except ModuleRefused:
            return b""
        return records if len(records) == bootrecord.PAIR_SIZE else b""

    def enter(self) -> Identity:
        """Bring the module into its update engine, with nothing begun there: the loader's, or where no
        bank is good the ROM's. Raises ModuleRefused (update.contactors, link.state)."""
        found = self.identity()
        if found.where is Answerer.APP:
            self._dialogue.ask(Request.ENTER_UPDATE)
            found = self.identity()
        if found.where is Answerer.APP:
            raise ModuleRefused(
                Code.LINK_STATE, f"module {self._serial}", expected="its update engine", found="its app"
            )
        self.abort()
        return found

    def begin(self) -> None:
        """From here on the bank that does not run is not bootable."""
        self._dialogue.ask(Request.BEGIN, NO_ORDER)

    def send(self, stage: Stage, data: bytes, wrapped_key: bytes, size: int) -> Iterator[int]:
        """An image as it was published, in pieces of `size` bytes; yields how many have been taken."""
        self._dialogue.ask(Request.IMAGE, encode_image_request(stage, len(data), wrapped_key))
        size -= size % DATA_UNIT
        for offset in range(0, len(data), size):
            piece = data[offset : offset + size]
            self._dialogue.ask(Request.DATA, wire.u32(offset) + piece)
            yield len(piece)

    def copy(self, stage: Stage) -> None:
        """Out of the running bank."""
        self._dialogue.ask(Request.COPY, bytes([list(Stage).index(stage), 0, 0, 0]))

    def finish(self) -> None:
        """Both stages verify in the flash, and the bank is pending; or neither."""
        self._dialogue.ask(Request.FINISH)

    def abort(self) -> None:
        self._dialogue.ask(Request.ABORT)

    def restart(self) -> None:
        self._dialogue.ask(Request.RESTART)

    def vault_write(self, name: Name, version: int, value: bytes) -> None:
        """Into the vault, in force from the next boot. Raises ModuleRefused (lifecycle.closed)."""
        self._dialogue.ask(Request.VAULT_WRITE, bytes([name, 0, 0, 0]) + wire.u32(version) + value)

    def vault_read(self, name: Name) -> tuple[int, int, bytes]:
        """Version, counter and value. Raises ModuleRefused (vault.*); keys are never given out."""
        reader = wire.Reader(self._dialogue.ask(Request.VAULT_READ, bytes([name, 0, 0, 0])), "vault")
        return reader.u32(), reader.u32(), reader.take(reader.remaining)

    def revoke(self, revocation: bytes) -> None:
        """Hand over a revocation (docs/formats/revocation.md), which the ROM carries out."""
        self._dialogue.ask(Request.REVOKE, revocation)


def awake(module: Module) -> ModuleStatus:
    """The module's status; one that was left in the loader's update engine is brought back first."""
    status = module.status()
    if status.outcome is not Outcome.UPDATING:
        return status
    UpdateLink(module, status.serial).restart()
    return module.status()
