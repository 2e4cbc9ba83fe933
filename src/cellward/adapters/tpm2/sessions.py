"""The one session of a connection: salted by the owner's storage root key, for policies and for secrets.

What happens in it is put together here, command by command (core/tpm/command), and not by tpm2-tss: that one
takes half a millisecond for each hash, and there are a dozen in an unsealing (docs/adr/0011).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cellward.adapters.tpm2.connection import Connection, transient
from cellward.adapters.tpm2.vendor import (
    ESAPI,
    ESYS_TR,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMT_PUBLIC,
    TSS2_Exception,
)
from cellward.core.errors import Code, Refused
from cellward.core.tpm.command import NONCE_SIZE, Call, Session, start_session
from cellward.core.tpm.derivation import share_by_ecdh
from cellward.core.tpm.keys import CONFINED
from cellward.core.tpm.numbers import Alg, Hierarchy, ObjectAttributes
from cellward.core.tpm.public import COORDINATE_SIZE, Public, Symmetric, decode_public
from cellward.core.wire import BigEndianReader, be_sized

STORAGE_ROOT = 0x81000001
_Is = ObjectAttributes
# Exempt from dictionary-attack protection, unlike the usual template: a few power cuts lock that one out.
_STORES = CONFINED | _Is.USER_WITH_AUTH | _Is.NO_DA | _Is.RESTRICTED | _Is.DECRYPT
_STORAGE = Public(Alg.ECC, _STORES, bytes(64), symmetric=Symmetric.AES_128_CFB)
_STORAGE_POINT = be_sized(bytes(COORDINATE_SIZE)) * 2
_STORAGE_FORM = _STORAGE.encode()[: -len(_STORAGE_POINT)]


class Sessions(Connection):
    """All of it within one `command`."""

    _storage: Public | None = None

    def salted(self, esys: ESAPI) -> Session:
        """Salting takes as long as all the rest of a command: the session is kept."""
        if self._session is None:
            salt, encrypted = share_by_ecdh(self.storage_root(esys), b"SECRET\0", os.urandom)
            self._session = self._start(salt, STORAGE_ROOT, encrypted)
        return self._session

    @contextmanager
    def unsalted(self) -> Iterator[Session]:
        session = self._start(b"")
        with self.flushed(session.handle):
            yield session

    def within(self, session: Session, call: Call) -> bytearray:
        """As Session.answer; for the caller to wipe."""
        return session.answer(call, self.exchange(session.command(call, os.urandom(NONCE_SIZE))))

    def _start(self, salt: bytes, storage: int = Hierarchy.NULL, encrypted: bytes = b"") -> Session:
        ours = os.urandom(NONCE_SIZE)
        answer = BigEndianReader(self.exchange(start_session(ours, storage, encrypted)), "session")
        return Session(answer.u32(), salt, ours, answer.sized())

    @contextmanager
    def flushed(self, handle: int) -> Iterator[None]:
        """A transient object or a session, for as long as this lasts."""
        try:
            yield
        except BaseException:
            with suppress(TSS2_Exception):  # what went wrong first is what counts
                self.flush(handle)
            raise
        self.flush(handle)

    def storage_root(self, esys: ESAPI) -> Public:
        """The owner's storage root key, made when it is first wanted. Looked at once for each connection."""
        if self._storage is not None and STORAGE_ROOT in self._kept:
            return self._storage
        if self.exists(esys, STORAGE_ROOT):
            area, *_ = esys.read_public(self._kept[STORAGE_ROOT])
            if area.publicArea.marshal()[: -len(_STORAGE_POINT)] != _STORAGE_FORM:
                self.forget()
                raise Refused(
                    Code.TPM_EXISTS,
                    f"storage root key {STORAGE_ROOT:#010x}",
                    expected="none, or P-256 and exempt from dictionary-attack protection",
                    found="another kind of key",
                    advice="evict it, if nothing of value is sealed to it",
                )
        else:
            made, area, *_ = esys.create_primary(
                TPM2B_SENSITIVE_CREATE(), public_area(_STORAGE), ESYS_TR.OWNER
            )
            with transient(esys, made):
                self._kept[STORAGE_ROOT] = esys.evict_control(ESYS_TR.OWNER, made, STORAGE_ROOT)
        self._storage = decode_public(bytes(area.publicArea.marshal()))
        return self._storage


def public_area(area: Public) -> TPM2B_PUBLIC:
    return TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(area.encode())[0])
