"""A KeyStore in memory: keys of the test's own, which keep every promise of the port but secrecy."""

from cellward.core.errors import Code, PolicyRefused, Refused, Unavailable
from cellward.core.keys import Algorithm
from cellward.ports.signer import KeyAttributes, StoredKey, TokenFacts
from tests.support.maker import Hand

CONFINED = KeyAttributes(
    sensitive=True, extractable=False, always_sensitive=True, never_extractable=True, local=True
)
EXPORTABLE = KeyAttributes(
    sensitive=True, extractable=True, always_sensitive=True, never_extractable=False, local=True
)


class MemoryKeyStore:
    """`hold` puts a key in that other software made."""

    def __init__(self) -> None:
        self._keys: list[tuple[StoredKey, Hand]] = []

    def hold(
        self,
        label: str,
        attributes: KeyAttributes = CONFINED,
        algorithm: Algorithm = Algorithm.P256,
    ) -> StoredKey:
        hand = Hand.of(algorithm, label)
        stored = StoredKey(label, hand.public_key, attributes)
        self._keys.append((stored, hand))
        return stored

    def facts(self) -> TokenFacts:
        return TokenFacts("memory", "the test", "fake", "1")

    def labels(self) -> list[str]:
        return sorted(stored.label for stored, _ in self._keys)

    def find(self, label: str) -> StoredKey | None:
        found = self._only(label)
        return found[0] if found else None

    def create(self, label: str, algorithm: Algorithm = Algorithm.P256) -> StoredKey:
        if any(stored.label == label for stored, _ in self._keys):
            raise Refused(Code.KEY_EXISTS, label)
        return self.hold(label, algorithm=algorithm)

    def signer(self, label: str) -> Hand:
        found = self._only(label)
        if found is None:
            raise Unavailable(Code.TOKEN_KEY_MISSING, label)
        stored, hand = found
        if not stored.attributes.confined:
            raise PolicyRefused(Code.KEY_EXPORTABLE, label)
        return hand

    def _only(self, label: str) -> tuple[StoredKey, Hand] | None:
        found = [entry for entry in self._keys if entry[0].label == label]
        if len(found) > 1:
            raise Refused(Code.TOKEN_AMBIGUOUS, label)
        return found[0] if found else None
