"""Commands and answers, byte by byte, and the session that hides and authenticates some (Part 1, 16 to 21).

::

    plain(code, …), authorised(code, handles, …)     with no session, and by an empty password
    Session.command(call, nonce)                     in the session
    Session.answer(call, data)                       what the TPM said in it, if it was the TPM

A salted session's key is known to the TPM alone whose storage key the salt was made for. The session is one
for policies, and may stand beside a command's password too, where it authorises nothing and still hides.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntFlag

from cellward.core.errors import Code, TrustRefused
from cellward.core.tpm.derivation import AES_SIZE, cfb, kdf_a
from cellward.core.tpm.numbers import DIGEST_SIZE, Alg, Command, Hierarchy
from cellward.core.wire import BigEndianReader, be16, be32, be_sized

MAX_COMMAND = 4096  # what the PC Client Profile has every TPM take
HEADER_SIZE = 10  # tag, size, code
NONCE_SIZE = 32
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_PASSWORD = be32(0x40000009) + be_sized(b"") + b"\0" + be_sized(b"")  # TPM_RS_PW, and it is empty
_POLICY = b"\x01"
_CIPHER = be16(Alg.AES) + be16(8 * AES_SIZE) + be16(Alg.CFB)
_WHAT = "answer of the TPM"


class Hides(IntFlag):
    """TPMA_SESSION, 8.4: which first parameter is encrypted."""

    NOTHING = 0
    ARGUMENT = 1 << 5
    ANSWER = 1 << 6


_CONTINUES = 1


@dataclass(frozen=True)
class Entity:
    """What a command is about: a handle, and the Name of what the sender believes to have there."""

    handle: int
    name: bytes


def plain(code: Command, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return be16(_NO_SESSIONS) + be32(HEADER_SIZE + len(body)) + be32(code) + body


def authorised(code: Command, handles: Sequence[int], parameters: bytes) -> bytes:
    """The first handle is authorised by an empty password."""
    return _in_sessions(code, handles, _PASSWORD, parameters)


def start_session(nonce: bytes, storage: int = Hierarchy.NULL, encrypted_salt: bytes = b"") -> bytes:
    """TPM2_StartAuthSession. The answer: the handle, and the TPM's nonce (TPM2B)."""
    return plain(
        Command.START_AUTH_SESSION,
        *(be32(storage), be32(Hierarchy.NULL), be_sized(nonce), be_sized(encrypted_salt)),
        *(_POLICY, _CIPHER, be16(Alg.SHA256)),
    )


@dataclass(frozen=True)
class Call:
    """A command in a session. `argument`: the content of its first TPM2B, where that is hidden.

    `beside_password`: the first entity is authorised by an empty password, the session is for the next one,
    or for none.
    """

    code: Command
    entities: tuple[Entity, ...]
    hides: Hides
    others: bytes = b""
    argument: bytearray = field(default_factory=bytearray, repr=False)
    beside_password: bool = True


class Session:
    """What it authorises has an empty authorisation. After a refusal it is of no more use."""

    def __init__(self, handle: int, salt: bytes, ours: bytes, theirs: bytes) -> None:
        """Without a salt, nobody's: of use for what a policy says, and to hide nothing."""
        self.handle = handle
        self._key = kdf_a(salt, b"ATH", theirs + ours, DIGEST_SIZE) if salt else b""
        self._ours, self._theirs = ours, theirs

    def command(self, call: Call, nonce: bytes) -> bytes:
        """The argument is encrypted in place. `nonce` is fresh each time."""
        self._ours, parameters = nonce, call.others
        if call.hides & Hides.ARGUMENT:
            self._crypt(call.argument, nonce + self._theirs, decrypt=False)
            parameters = be_sized(bytes(call.argument)) + parameters
        names = b"".join(entity.name for entity in call.entities)
        attributes = bytes([call.hides | _CONTINUES])
        mac = self._mac(be32(call.code) + names + parameters, nonce + self._theirs + attributes)
        area = be32(self.handle) + be_sized(nonce) + attributes + be_sized(mac)
        handles = [entity.handle for entity in call.entities]
        return _in_sessions(call.code, handles, _PASSWORD * call.beside_password + area, parameters)

    def answer(self, call: Call, data: bytes) -> bytearray:
        """Of what stands behind a successful answer's header: the hidden content, where the answer hides
        some, or else all parameters.

        Raises FormatRefused (wire.*), TrustRefused (tpm.failed) where it was not the TPM that said it.
        """
        reader = BigEndianReader(data, _WHAT)
        parameters = reader.take(reader.u32())
        if call.beside_password:
            reader.take(len(_PASSWORD) - 4)
        theirs, attributes, mac = reader.sized(), reader.take(1), reader.sized()
        reader.finish()
        found = self._mac(be32(0) + be32(call.code) + parameters, theirs + self._ours + attributes)
        if not hmac.compare_digest(found, mac):
            raise TrustRefused(
                Code.TPM_FAILED,
                _WHAT,
                expected="the HMAC of the session",
                found="another one",
                advice="something between us and the TPM changes what it says",
            )
        self._theirs = theirs
        if not call.hides & Hides.ANSWER:
            return bytearray(parameters)
        hidden = bytearray(BigEndianReader(parameters, _WHAT).sized())
        self._crypt(hidden, theirs + self._ours, decrypt=True)
        return hidden

    def _mac(self, hashed: bytes, rest: bytes) -> bytes:
        return hmac.digest(self._key, hashlib.sha256(hashed).digest() + rest, "sha256")

    def _crypt(self, data: bytearray, nonces: bytes, *, decrypt: bool) -> None:
        pair = kdf_a(self._key, b"CFB", nonces, 2 * AES_SIZE)
        cfb(pair[:AES_SIZE], pair[AES_SIZE:], data, decrypt=decrypt)


def _in_sessions(code: Command, handles: Sequence[int], area: bytes, parameters: bytes) -> bytes:
    body = b"".join(map(be32, handles)) + be32(len(area)) + area + parameters
    return be16(_SESSIONS) + be32(HEADER_SIZE + len(body)) + be32(code) + body
