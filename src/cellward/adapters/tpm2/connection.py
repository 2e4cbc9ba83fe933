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
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_RC,
    TPM2_SE,
    TPMA_SESSION,
    TPMT_SYM_DEF,
    PyTCTI,
    TSS2_Exception,
)
from cellward.core.errors import CellwardError, Code, Unavailable


class Connection:
    """`tcti`: where the TPM is, as tpm2-tools write it (`device:/dev/tpmrm0`), or a transport of ours."""

    def __init__(self, tcti: "str | PyTCTI") -> None:
        self._lock = threading.RLock()
        self._kept: dict[int, int] = {}
        self._bus: int | None = None
        try:
            self._esys: ESAPI | None = ESAPI(tcti)
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

    def encrypting(self, esys: ESAPI, salted_by: int, direction: TPMA_SESSION) -> int:
        """A session beside a command's own: its first parameter, or its answer's, is hidden on the bus.

        Salted by a storage key, which takes as long as all the rest of a command: it is kept.
        """
        if self._bus is None:
            self._bus = start_session(esys, TPM2_SE.HMAC, salted_by)
        esys.trsess_set_attributes(self._bus, direction | TPMA_SESSION.CONTINUESESSION)
        return self._bus

    def forget(self) -> None:
        """What the TPM holds may have changed."""
        bus, self._bus = self._bus, None
        if bus is not None and self._esys is not None:
            with suppress(TSS2_Exception):  # it may be gone already
                self._esys.flush_context(bus)
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


@contextmanager
def policy_session(esys: ESAPI) -> Iterator[int]:
    with transient(esys, start_session(esys, TPM2_SE.POLICY, ESYS_TR.NONE)) as started:
        yield started


def start_session(esys: ESAPI, kind: TPM2_SE, salted_by: int) -> int:
    cipher = TPMT_SYM_DEF(algorithm=TPM2_ALG.AES, keyBits={"aes": 128}, mode={"aes": TPM2_ALG.CFB})
    started: int = esys.start_auth_session(salted_by, ESYS_TR.NONE, kind, cipher, TPM2_ALG.SHA256)
    return started


def handles(esys: ESAPI, first: int, last: int) -> list[int]:
    """What is persistent, or defined, from `first` to `last`."""
    _, found = esys.get_capability(TPM2_CAP.HANDLES, first, 64)
    data: Any = found.data.handles
    return [int(handle) for handle in data if int(handle) <= last]
