"""One connection to a TPM: ESAPI is not thread-safe, and a TPM has three slots for objects.

Every command goes through `command`, under one lock. Transient objects and sessions are flushed by the
contexts that make them. Handles of persistent objects are kept, so that a signature costs one command;
after a failure all of them are looked up again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from cellward.adapters.tpm2.refusals import otherwise
from cellward.adapters.tpm2.vendor import (
    ESAPI,
    TPM2_CAP,
    TPM2_RC,
    TSS2_RC,
    PyTCTI,
    TCTILdr,
    TSS2_Exception,
)
from cellward.core.errors import CellwardError, Code, Unavailable
from cellward.core.tpm.command import HEADER_SIZE, MAX_COMMAND, Session, plain
from cellward.core.tpm.numbers import Command
from cellward.core.wire import BigEndianReader, be32

_LATER = (TPM2_RC.RETRY, TPM2_RC.TESTING, TPM2_RC.YIELDED)
_TRIES = 5


class Connection:
    """`tcti`: where the TPM is, as tpm2-tools write it (`device:/dev/tpmrm0`), or a transport of ours."""

    def __init__(self, tcti: "str | PyTCTI") -> None:
        self._lock = threading.RLock()
        self._kept: dict[int, int] = {}
        self._session: Session | None = None
        try:
            self._tcti = TCTILdr.parse(tcti) if isinstance(tcti, str) else tcti
            self._esys: ESAPI | None = ESAPI(self._tcti)
        except TSS2_Exception as error:
            raise Unavailable(
                Code.TPM_ABSENT,
                f"TPM {tcti}" if isinstance(tcti, str) else "TPM",
                expected="a TPM 2.0",
                found=str(error),
                advice="correct CELLWARD_TPM, for example device:/dev/tpmrm0, and see that it may be opened",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._esys is not None:
                self.forget()
                self._esys.close()
                self._esys = None
                if isinstance(self._tcti, TCTILdr):
                    self._tcti.close()

    @contextmanager
    def command(self, subject: str) -> Iterator[ESAPI]:
        """The TPM for one or more commands about `subject`, alone among threads."""
        with self._lock:
            if self._esys is None:
                raise Unavailable(Code.TPM_ABSENT, subject, expected="an open TPM", found="a closed one")
            try:
                with otherwise(Code.TPM_FAILED, subject):
                    yield self._esys
            except CellwardError as error:
                self.forget()
                if error.code is Code.TPM_ABSENT:  # nobody knows any more where an answer belongs
                    self.close()
                raise

    def persistent(self, esys: ESAPI, handle: int) -> int:
        """A persistent object or an NV index. Raises TSS2_Exception (TPM_RC_HANDLE) for none."""
        if handle not in self._kept:
            self._kept[handle] = esys.tr_from_tpmpublic(handle)
        return self._kept[handle]

    def exists(self, esys: ESAPI, handle: int) -> bool:
        try:
            self.persistent(esys, handle)
        except TSS2_Exception as error:
            if error.error != TPM2_RC.HANDLE:
                raise
            return False
        return True

    def exchange(self, command: bytes) -> bytes:
        """What follows the header of the answer to a command that is put together here, for what happens in
        a session: tpm2-tss takes half a millisecond for each hash. Raises TSS2_Exception for a refusal."""
        if len(command) > MAX_COMMAND:
            raise TSS2_Exception(TPM2_RC.COMMAND_SIZE)
        tries = _TRIES
        while True:
            answer = self._answer(command)
            reader, tries = BigEndianReader(answer, "answer of the TPM"), tries - 1
            reader.take(HEADER_SIZE - 4)
            code = reader.u32()
            if code == 0:
                return answer[HEADER_SIZE:]
            if code not in _LATER or not tries:
                raise TSS2_Exception(code)

    def _answer(self, command: bytes) -> bytes:
        try:
            self._tcti.transmit(command)
            return bytes(self._tcti.receive())
        except OSError as error:
            raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR) from error

    def flush(self, handle: int) -> None:
        """An object or a session that was made by `exchange`."""
        self.exchange(plain(Command.FLUSH_CONTEXT, be32(handle)))

    def forget(self) -> None:
        """What the TPM holds may have changed."""
        session, self._session = self._session, None
        if session is not None and self._esys is not None:
            with suppress(TSS2_Exception, CellwardError):  # it may be gone already
                self.flush(session.handle)
        kept, self._kept = self._kept, {}
        for handle in kept.values():
            if self._esys is not None:
                self._esys.tr_close(handle)


@contextmanager
def transient(esys: ESAPI, handle: int) -> Iterator[int]:
    """An object in one of the slots, or a session, for as long as this lasts."""
    try:
        yield handle
    except BaseException:
        with suppress(TSS2_Exception):  # what went wrong first is what counts
            esys.flush_context(handle)
        raise
    esys.flush_context(handle)


def handles(esys: ESAPI, first: int, last: int) -> list[int]:
    """What is persistent, or defined, from `first` to `last`."""
    _, found = esys.get_capability(TPM2_CAP.HANDLES, first, 64)
    data: Any = found.data.handles
    return [int(handle) for handle in data if int(handle) <= last]
