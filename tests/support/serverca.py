"""Statements on server CAs, signed by whichever keys of tests.support.uptane a test wants."""

from functools import cache

from cellward.core import envelope, serverca
from tests.fakes.tls import Authority
from tests.support.uptane import holder

OLD, NEW = Authority("old server ca"), Authority("new server ca")
QUORUM = ("root-1", "root-3")


def stated(version: int, *authorities: Authority, by: tuple[str, ...] = QUORUM, kind: str = "") -> bytes:
    return _stated(version, tuple(each.pem.decode() for each in authorities), by, kind or serverca.KIND)


@cache  # a signature is never twice the same
def _stated(version: int, pems: tuple[str, ...], by: tuple[str, ...], kind: str) -> bytes:
    return signed(envelope.make(kind, {"version": version, "cas": list(pems)}), by)


def signed(made: envelope.Envelope, by: tuple[str, ...] = QUORUM) -> bytes:
    for name in by:
        key = holder(name)
        made = made.signed_by(key.public_key, key.sign(key.public_key.to_sign(made.pae)))
    return made.encode()


def of(*pems: str) -> bytes:
    return signed(envelope.make(serverca.KIND, {"version": 3, "cas": list(pems)}))
