"""A token behind a URI: its session, its keys, signatures with one of them."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from cellward.adapters.pkcs11.kinds import KINDS, kind_of
from cellward.adapters.pkcs11.lane import LANE, LOST, Module, failed
from cellward.adapters.pkcs11.objects import label_of, only_one, private_keys, stored_key
from cellward.adapters.pkcs11.pin import Pin
from cellward.adapters.pkcs11.vendor import Attribute, ck, pkcs11
from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.keys import (
    Algorithm,
    PublicKey,
    encode_signature,
)
from cellward.ports.signer import StoredKey, TokenFacts
from cellward.ports.token_uri import TokenUri

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812  a class, for all its name

T = TypeVar("T")

# Verified on SoftHSM: reading the value, flipping a flag and wrapping are all refused afterwards.
PRIVATE_TEMPLATE = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.SIGN: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.SIGN_RECOVER: False,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: False,
    Attribute.DERIVE: False,
}


class Token:
    """The one token that a URI names. Work on it runs in the process's lane, logged in."""

    def __init__(self, module: Module, uri: TokenUri, pin: Pin) -> None:
        self.module = module
        self.uri = uri
        self._pin = pin
        self._session: pkcs11.Session | None = None
        self._generation = -1

    def run(self, work: Callable[[pkcs11.Session], T], *, rw: bool = False) -> T:
        """`work` on the session. A token that was away and is back gets one fresh start.

        Raises CellwardError (token.*) for everything the library raises.
        """
        with LANE.lock:
            try:
                try:
                    return work(self._open(rw))
                except LOST as error:
                    LANE.give_up(self.module, error)
                    return work(self._open(rw))
            except ck.PKCS11Error as error:
                LANE.give_up(self.module, error)
                raise failed(error, self.uri.token_name) from error

    def exclusive(self, work: Callable[[pkcs11.Session], T]) -> T:
        """`run`, able to write, and alone among processes where the module has a lock."""
        with LANE.lock, LANE.exclusive(self.module.lock):
            return self.run(work, rw=True)

    def _open(self, rw: bool) -> pkcs11.Session:
        held = self._session
        current = self._generation == LANE.generation and LANE.ready(self.module)
        if held is None or not current or (rw and not held.rw):
            with LANE.exclusive(self.module.lock):
                held = self._login(rw)
        self._session, self._generation = held, LANE.generation
        return held

    def _login(self, rw: bool) -> pkcs11.Session:
        token = self._select()
        key = (self.module.path, token.serial, token.label)
        held = LANE.sessions.get(key)
        if held is not None:
            if held.rw or not rw:
                return held
            LANE.sessions.pop(key).close()
        LANE.sessions[key] = session = token.open(rw=rw, user_pin=self._pin())
        return session

    def _select(self) -> pkcs11.Token:
        running = LANE.ready(self.module)
        tokens, matching = self._look()
        if running and not matching:
            LANE.stop(self.module)  # some libraries see only what was there when they were initialised
            tokens, matching = self._look()
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise Refused(
                Code.TOKEN_AMBIGUOUS,
                self.uri.token_name,
                expected="one token",
                found=f"{len(matching)}: " + ", ".join(sorted(map(_said, matching))),
                advice="add serial=… to the URI",
            )
        raise Unavailable(
            Code.TOKEN_ABSENT,
            self.uri.token_name,
            expected=f"that token behind {self.module.path}",
            found=", ".join(sorted(map(_said, tokens))) or "no token",
            advice="correct the URI, insert the token, or make the embedded one with `cellward keys init`",
        )

    def _look(self) -> tuple[list[pkcs11.Token], list[pkcs11.Token]]:
        """The initialised tokens, and those of them that the URI names."""
        library = LANE.library(self.module)
        tokens = [token for token in _tokens(library) if pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags]
        return tokens, [token for token in tokens if self._matches(library, token)]

    def _matches(self, library: "Library", token: pkcs11.Token) -> bool:
        uri, slot = self.uri, token.slot
        pairs = (
            (uri.token, token.label),
            (uri.serial, _printable(token.serial)),
            (uri.manufacturer, token.manufacturer_id),
            (uri.model, token.model),
            (uri.slot_id, slot.slot_id),
            (uri.slot_description, slot.slot_description),
            (uri.slot_manufacturer, slot.manufacturer_id),
            (uri.library_manufacturer, library.manufacturer_id),
            (uri.library_description, library.library_description),
            (uri.library_version, tuple(library.library_version)),
        )
        return all(want is None or want == got for want, got in pairs)


def _said(token: pkcs11.Token) -> str:
    return f"{token.label} (serial {_printable(token.serial)})"


def _tokens(library: "Library") -> Iterable[pkcs11.Token]:
    for slot in library.get_slots(token_present=True):
        try:
            yield slot.get_token()
        except (ck.TokenNotPresent, ck.TokenNotRecognised):
            continue


def _printable(raw: bytes) -> str:
    return raw.decode(errors="replace").strip("\0 ")


def facts_of(token: pkcs11.Token) -> TokenFacts:
    return TokenFacts(token.label, token.manufacturer_id, token.model, _printable(token.serial))


class TokenSigner:
    """Signer: one private key of a token. One that can be exported or that is published is refused."""

    def __init__(self, token: Token, uri: TokenUri, text: str) -> None:
        self._token = token
        self._uri = uri
        self._text = text
        self._session: pkcs11.Session | None = None
        self._key, self._public_key = token.run(self._load)

    @property
    def uri(self) -> str:
        return self._text

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    def sign(self, data: bytes) -> bytes:
        algorithm = self._public_key.algorithm
        if algorithm.digest_size not in (None, len(data)):
            raise FormatRefused(
                Code.KEY_FORMAT,
                self._text,
                expected=f"a digest of {algorithm.digest_size} bytes",
                found=f"{len(data)}",
            )
        raw = self._token.run(lambda session: self._sign(session, data))
        return encode_signature(raw, algorithm)

    def _sign(self, session: pkcs11.Session, data: bytes) -> bytes:
        if session is not self._session:
            self._key, found = self._load(session)
            if found != self._public_key:
                raise Refused(
                    Code.TOKEN_KEY_MISSING,
                    self._text,
                    expected=f"key {self._public_key.fingerprint[:16]}",
                    found=f"{found.fingerprint[:16]}: the token that came back is another",
                )
        kind = KINDS[self._public_key.algorithm]
        raw: bytes = self._key.sign(data, mechanism=kind.mechanism, mechanism_param=kind.mechanism_parameters)
        return raw

    def _load(self, session: pkcs11.Session) -> tuple[pkcs11.SignMixin, PublicKey]:
        subject = f"{self._uri.key_name} in {self._uri.token_name}"
        keys = private_keys(session, self._uri.object, self._uri.id)
        if not keys:
            labels = sorted({label_of(key) for key in private_keys(session)})
            raise Unavailable(
                Code.TOKEN_KEY_MISSING,
                subject,
                expected="one private key",
                found="only " + ", ".join(labels) if labels else "no key",
                advice="make the roles' keys with `cellward keys init`",
            )
        key = only_one(keys, subject)
        stored = stored_key(session, key)
        require_confined(stored, subject)
        stored.public_key.unpublished(subject)
        if not isinstance(key, pkcs11.SignMixin):
            raise PolicyRefused(Code.KEY_FORMAT, subject, expected="a signing key", found="CKA_SIGN false")
        self._session = session
        return key, stored.public_key


class TokenKeyStore:
    """KeyStore: what `keys init` and `keys list` ask of a token."""

    def __init__(self, token: Token, text: str) -> None:
        self._token = token
        self._text = text

    def facts(self) -> TokenFacts:
        return self._token.run(lambda session: facts_of(session.token))

    def labels(self) -> list[str]:
        return self._token.run(lambda session: sorted(label_of(key) for key in private_keys(session)))

    def find(self, label: str) -> StoredKey | None:
        return self._token.run(lambda session: self._find(session, label))

    def create(self, label: str, algorithm: Algorithm = Algorithm.P256) -> StoredKey:
        return self._token.exclusive(lambda session: self._create(session, label, algorithm))

    def signer(self, label: str) -> TokenSigner:
        uri = TokenUri(**{**self._token.uri.__dict__, "object": label})
        path, _, query = self._text.partition("?")
        text = f"{path};object={label}" + (f"?{query}" if query else "")
        return TokenSigner(self._token, uri, text)

    def _find(self, session: pkcs11.Session, label: str) -> StoredKey | None:
        keys = private_keys(session, label)
        return stored_key(session, only_one(keys, f"key {label}")) if keys else None

    def _create(self, session: pkcs11.Session, label: str, algorithm: Algorithm) -> StoredKey:
        if private_keys(session, label):
            raise Refused(Code.KEY_EXISTS, f"key {label}", expected="a new label", found="a key of that name")
        import secrets

        options: dict[str, Any] = {
            "id": secrets.token_bytes(16),
            "label": label,
            "store": True,
            "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            "public_template": {Attribute.MODIFIABLE: False},
            "private_template": PRIVATE_TEMPLATE,
        }
        kind = kind_of(algorithm)
        try:
            with self._token.module.storing():
                private = kind.generate(session, options)
        except FormatRefused as error:
            for half in list(session.get_objects({Attribute.ID: options["id"]})):
                half.destroy()
            raise Unavailable(
                Code.TOKEN_FAILED,
                f"key {label}",
                expected="it on the disk, whole",
                found="a part of it",
                advice="free some space and repeat; no key was made",
            ) from error
        return stored_key(session, private)


def require_confined(stored: StoredKey, subject: str) -> None:
    """Refuse a key whose value the token would give away (key.exportable)."""
    if not stored.attributes.confined:
        raise PolicyRefused(
            Code.KEY_EXPORTABLE,
            subject,
            expected="SENSITIVE and not EXTRACTABLE",
            found=f"SENSITIVE {stored.attributes.sensitive}, EXTRACTABLE {stored.attributes.extractable}",
            advice="a key that could have been copied signs nothing here: make a new one in the token",
        )
