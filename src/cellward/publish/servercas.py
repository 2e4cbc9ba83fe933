"""Statements on server CAs: numbered, signed by the root of the Image repository, never changed."""

from collections.abc import Sequence
from itertools import takewhile

from cellward.core import serverca
from cellward.core.serverca import ServerCas
from cellward.ports.store import Store
from cellward.publish.roots import Roots, Signers


class Statements:
    """`1.json`, `2.json`, … in a Store; `roots` are those of the Image repository."""

    def __init__(self, store: Store, roots: Roots, signers: Signers) -> None:
        self._store = store
        self._roots = roots
        self._signers = signers
        self._newest: ServerCas | None = None

    def newest(self) -> ServerCas | None:
        """Another process may have added one: looked for each time."""
        version = self._newest.version if self._newest else 0
        while (data := self._store.read(_name(version + 1))) is not None:
            self._newest, version = serverca.read(data), version + 1
        return self._newest

    def accepted_since(self, certificate: bytes) -> int | None:
        """From which version on, without a break, this CA is accepted; None where it is not."""
        newest = self.newest()
        held = (
            serverca.read(self._store.read(_name(n)) or b"")
            for n in range(newest.version if newest else 0, 0, -1)
        )
        versions = [each.version for each in takewhile(lambda each: certificate in each.certificates, held)]
        return versions[-1] if versions else None

    def state(self, certificates: Sequence[bytes]) -> ServerCas:
        """The next version: these CAs and no others.

        Raises what `serverca.statement` does, and `serverca.verify` where the token's root key alone is not
        enough; nothing is written then.
        """
        newest = self.newest()
        made = serverca.statement(newest.version + 1 if newest else 1, certificates)
        signer = self._signers("root")
        key = signer.public_key
        data = made.signed_by(key, signer.sign(key.to_sign(made.pae))).encode()
        stated = serverca.verify(data, self._roots.newest().signed)
        self._store.write_once(_name(stated.version), data)
        return stated


def _name(version: int) -> str:
    return f"{version}.json"
