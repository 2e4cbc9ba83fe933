"""Quotes: what a TPM says of its PCRs, signed by an attestation key (Part 2, 10.12; Part 3, 18.4)."""

import hmac
from dataclasses import dataclass
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import P256_ORDER
from cellward.core.tpm import pcr
from cellward.core.tpm.keys import AttestationKey
from cellward.core.tpm.numbers import ATTEST_QUOTE, DIGEST_SIZE, GENERATED, Alg
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.public import COORDINATE_SIZE, decode_name
from cellward.core.wire import BigEndianReader, be32

NONCE_SIZE = 32
_WHAT = "quote"


@dataclass(frozen=True)
class Quote:
    """TPMS_ATTEST with TPMS_QUOTE_INFO.

    `resets` and `restarts` count up with each start. Unless the key is in the endorsement or platform
    hierarchy they and `firmware` are shifted by a secret of the TPM, the same for this key for ever
    (Part 1, 36.7): good for comparing with an earlier quote, not with another TPM's.
    """

    signer: bytes  # qualified name
    nonce: bytes
    clock: int  # milliseconds that the TPM had power
    resets: int
    restarts: int
    safe: bool  # False: the clock may have been seen higher before
    firmware: int
    selection: tuple[int, ...]
    digest: bytes

    @property
    def moment(self) -> bytes:
        """Resets, restarts, clock: of one key's quotes a later one has the greater."""
        return be32(self.resets) + be32(self.restarts) + self.clock.to_bytes(8, "big")


def decode_quote(data: bytes) -> Quote:
    """The fields as they stand there: claims, until `verify_quote`.

    Raises FormatRefused (wire.*, attest.format), TrustRefused (attest.magic) for what no TPM made and
    TrustRefused (attest.type) for another attestation.
    """
    reader = BigEndianReader(data, _WHAT)
    if (magic := reader.u32()) != GENERATED:
        _untrusted(Code.ATTEST_MAGIC, f"magic {GENERATED:#x}, made by a TPM", f"{magic:#x}")
    if (kind := reader.u16()) != ATTEST_QUOTE:
        _untrusted(Code.ATTEST_TYPE, f"a quote, {ATTEST_QUOTE:#06x}", f"{kind:#06x}")
    signer, nonce = decode_name(reader.sized()), reader.sized()
    if len(nonce) != NONCE_SIZE:
        _malformed(f"a nonce of {NONCE_SIZE} bytes", f"{len(nonce)}")
    clock, resets, restarts, safe = reader.u64(), reader.u32(), reader.u32(), reader.u8()
    if safe not in (0, 1):
        _malformed("yes or no", f"{safe}")
    firmware, selection, digest = reader.u64(), pcr.read_selection(reader), reader.sized()
    if len(digest) != DIGEST_SIZE:
        _malformed(f"a digest of {DIGEST_SIZE} bytes", f"{len(digest)}")
    reader.finish()
    return Quote(signer, nonce, clock, resets, restarts, bool(safe), firmware, selection, digest)


def decode_signature(data: bytes) -> bytes:
    """TPMT_SIGNATURE of ECDSA P-256 with SHA-256, as DER. Raises FormatRefused (wire.*, attest.format)."""
    reader = BigEndianReader(data, "quote's signature")
    scheme, digest, r, s = reader.u16(), reader.u16(), reader.sized(), reader.sized()
    reader.finish()
    if (scheme, digest) != (Alg.ECDSA, Alg.SHA256):
        _malformed("ECDSA with SHA-256", f"algorithms {scheme:#06x} and {digest:#06x}")
    if (len(r), len(s)) != (COORDINATE_SIZE, COORDINATE_SIZE):
        _malformed("r and s of 32 bytes", f"{len(r)} and {len(s)}")
    numbers = int.from_bytes(r, "big"), int.from_bytes(s, "big")
    if not all(0 < number < P256_ORDER for number in numbers):
        _malformed("r and s from 1 to the order of P-256, less one", "another")
    return encode_dss_signature(*numbers)


def verify_quote(
    data: bytes, signature: bytes, key: AttestationKey, nonce: bytes, expected: PcrValues
) -> Quote:
    """What the TPM said, if it said it now, with this key, of exactly these PCRs and values.

    1. signature  attest.signature: over every byte, before one of them is looked at
    2. form       attest.magic, attest.type, attest.format, wire.*
    3. signer     attest.signer: the key where it is in its TPM
    4. nonce      attest.nonce: the one that was sent
    5. selection  attest.selection: these PCRs, not more and not fewer
    6. digest     attest.pcr: over the expected values

    `signature` is a TPMT_SIGNATURE. Raises TrustRefused, for a malformed one FormatRefused.
    """
    key.key.verify_message(data, decode_signature(signature), code=Code.ATTEST_SIGNATURE, subject=_WHAT)  # 1
    quote = decode_quote(data)  # 2
    if quote.signer != key.qualified_name:  # 3
        _untrusted(Code.ATTEST_SIGNER, _short(key.qualified_name), _short(quote.signer))
    if not hmac.compare_digest(quote.nonce, nonce):  # 4
        _untrusted(Code.ATTEST_NONCE, f"the nonce {nonce.hex()[:16]}…", f"{quote.nonce.hex()[:16]}…")
    if quote.selection != expected.selection:  # 5
        _untrusted(Code.ATTEST_SELECTION, f"PCRs {_list(expected.selection)}", _list(quote.selection))
    if quote.digest != expected.digest:  # 6
        _untrusted(Code.ATTEST_PCR, f"digest {expected.digest.hex()[:16]}…", f"{quote.digest.hex()[:16]}…")
    return quote


def _short(name: bytes) -> str:
    return f"qualified name {name.hex()[4:20]}…"


def _list(selection: tuple[int, ...]) -> str:
    return ", ".join(map(str, selection)) or "none"


def _malformed(expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.ATTEST_FORMAT, _WHAT, expected=expected, found=found)


def _untrusted(code: Code, expected: str, found: str) -> NoReturn:
    raise TrustRefused(code, _WHAT, expected=expected, found=found)
