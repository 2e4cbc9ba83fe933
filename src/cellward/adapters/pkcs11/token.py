"""A token behind a URI: its session, its keys, signatures with one of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cellward.adapters.pkcs11.lane import LANE, LOST, Module, failed
from cellward.adapters.pkcs11.pin import Pin
from cellward.adapters.pkcs11.vendor import Attribute, KeyType, ObjectClass, ck, pkcs11
from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.keys import (
    DIGEST_SIZE,
    P256_SPKI_PREFIX,
    RSA3072_PKCS1_PREFIX,
    RSA3072_PKCS1_SUFFIX,
    RSA_EXPONENT,
    Algorithm,
    PublicKey,
    encode_signature,
)
from cellward.ports.signer import KeyAttributes, StoredKey
from cellward.ports.token_uri import TokenUri

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812  a class, for all its name

T = TypeVar("T")

P256_PARAMS = bytes.fromhex("06082a8648ce3d030107")  # OID of secp256r1 (RFC 5480)
RSA_BITS = 3072
# RSASSA-PSS over the caller's digest: hash, mask and bytes of salt (PKCS#11 v2.40, 2.1.10).
MECHANISMS: dict[Algorithm, tuple[pkcs11.Mechanism, tuple[object, ...] | None]] = {
    Algorithm.P256: (pkcs11.Mechanism.ECDSA, None),
    Algorithm.RSA_3072: (
        pkcs11.Mechanism.RSA_PKCS_PSS,
        (pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256, DIGEST_SIZE),
    ),
}
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
        token = self._select(LANE.library(self.module))
        key = (self.module.path, token.serial, token.label)
        held = LANE.sessions.get(key)
        if held is not None:
            if held.rw or not rw:
                return held
            LANE.sessions.pop(key).close()
        LANE.sessions[key] = session = token.open(rw=rw, user_pin=self._pin())
        return session

    def _select(self, library: "Library") -> pkcs11.Token:
        tokens = [token for token in _tokens(library) if pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags]
        matching = [token for token in tokens if self._matches(token)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            serials = ", ".join(sorted(_printable(token.serial) for token in matching))
            raise Refused(
                Code.TOKEN_AMBIGUOUS,
                self.uri.token_name,
                expected="one token",
                found=f"{len(matching)} with serials {serials}",
                advice="add serial=… to the URI",
            )
        raise Unavailable(
            Code.TOKEN_ABSENT,
            self.uri.token_name,
            expected=f"that token behind {self.module.path}",
            found=", ".join(sorted(token.label for token in tokens)) or "no token",
            advice="correct the URI, insert the token, or make the embedded one with `cellward keys init`",
        )

    def _matches(self, token: pkcs11.Token) -> bool:
        asked = (self.uri.token, self.uri.serial, self.uri.manufacturer, self.uri.model)
        has = (token.label, _printable(token.serial), token.manufacturer_id, token.model)
        return all(want is None or want == got for want, got in zip(asked, has, strict=True))


def _tokens(library: "Library") -> Iterable[pkcs11.Token]:
    for slot in library.get_slots(token_present=True):
        try:
            yield slot.get_token()
        except (ck.TokenNotPresent, ck.TokenNotRecognised):
            continue


def _printable(raw: bytes) -> str:
    return raw.decode(errors="replace").strip("\0 ")


class TokenSigner:
    """Signer: one private key of a token. The key cannot be exported, or it is refused."""

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

    def sign(self, digest: bytes) -> bytes:
        if len(digest) != DIGEST_SIZE:
            raise FormatRefused(
                Code.KEY_FORMAT, self._text, expected="a SHA-256 digest", found=f"{len(digest)} bytes"
            )
        raw = self._token.run(lambda session: self._sign(session, digest))
        return encode_signature(raw) if self._public_key.algorithm is Algorithm.P256 else raw

    def _sign(self, session: pkcs11.Session, digest: bytes) -> bytes:
        if session is not self._session:
            self._key, found = self._load(session)
            if found != self._public_key:
                raise Refused(
                    Code.TOKEN_KEY_MISSING,
                    self._text,
                    expected=f"key {self._public_key.fingerprint[:16]}",
                    found=f"{found.fingerprint[:16]}: the token that came back is another",
                )
        # SoftHSM has no CKM_ECDSA_SHA256, so the digest is the caller's.
        mechanism, parameters = MECHANISMS[self._public_key.algorithm]
        raw: bytes = self._key.sign(digest, mechanism=mechanism, mechanism_param=parameters)
        return raw

    def _load(self, session: pkcs11.Session) -> tuple[pkcs11.SignMixin, PublicKey]:
        subject = f"{self._uri.key_name} in {self._uri.token_name}"
        keys = _private_keys(session, self._uri.object, self._uri.id)
        if not keys:
            labels = sorted({_label(key) for key in _private_keys(session)})
            raise Unavailable(
                Code.TOKEN_KEY_MISSING,
                subject,
                expected="one private key",
                found="only " + ", ".join(labels) if labels else "no key",
                advice="make the roles' keys with `cellward keys init`",
            )
        key = _only(keys, subject)
        stored = _stored(session, key)
        require_confined(stored, subject)
        if not isinstance(key, pkcs11.SignMixin):
            raise PolicyRefused(Code.KEY_FORMAT, subject, expected="a signing key", found="CKA_SIGN false")
        self._session = session
        return key, stored.public_key


class TokenKeyStore:
    """KeyStore: what `keys init` and `keys list` ask of a token."""

    def __init__(self, token: Token, text: str) -> None:
        self._token = token
        self._text = text

    def labels(self) -> list[str]:
        return self._token.run(lambda session: sorted(_label(key) for key in _private_keys(session)))

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
        keys = _private_keys(session, label)
        return _stored(session, _only(keys, f"key {label}")) if keys else None

    def _create(self, session: pkcs11.Session, label: str, algorithm: Algorithm) -> StoredKey:
        if _private_keys(session, label):
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
        if algorithm is Algorithm.RSA_3072:
            options["public_template"][Attribute.PUBLIC_EXPONENT] = RSA_EXPONENT.to_bytes(3, "big")
            _, private = session.generate_keypair(KeyType.RSA, RSA_BITS, **options)
        else:
            parameters = {Attribute.EC_PARAMS: P256_PARAMS}
            curve = session.create_domain_parameters(KeyType.EC, parameters, local=True)
            _, private = curve.generate_keypair(**options)
        return _stored(session, private)


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


def _objects(
    session: pkcs11.Session, kind: ObjectClass, label: str | None, key_id: bytes | None
) -> list[pkcs11.Object]:
    template: dict[Attribute, object] = {Attribute.CLASS: kind}
    template |= {} if label is None else {Attribute.LABEL: label}
    template |= {} if key_id is None else {Attribute.ID: key_id}
    # The whole list at once: a search that is left open blocks the session.
    return list(session.get_objects(template))


def _private_keys(
    session: pkcs11.Session, label: str | None = None, key_id: bytes | None = None
) -> list[pkcs11.Object]:
    return _objects(session, ObjectClass.PRIVATE_KEY, label, key_id)


def _only(keys: Sequence[pkcs11.Object], subject: str) -> pkcs11.Object:
    if len(keys) > 1:
        raise Refused(
            Code.TOKEN_AMBIGUOUS,
            subject,
            expected="one key",
            found=f"{len(keys)} with ids " + ", ".join(sorted(_id(key).hex() or "none" for key in keys)),
            advice="add id=… (percent-encoded) to the URI, or remove one",
        )
    return keys[0]


def _stored(session: pkcs11.Session, private: pkcs11.Object) -> StoredKey:
    label = _label(private)
    attributes = KeyAttributes(
        sensitive=_flag(private, Attribute.SENSITIVE),
        extractable=_flag(private, Attribute.EXTRACTABLE, default=True),
        always_sensitive=_flag(private, Attribute.ALWAYS_SENSITIVE),
        never_extractable=_flag(private, Attribute.NEVER_EXTRACTABLE),
        local=_flag(private, Attribute.LOCAL),
    )
    return StoredKey(label, _public_key(session, private, f"key {label}"), attributes)


def _public_key(session: pkcs11.Session, private: pkcs11.Object, subject: str) -> PublicKey:
    key_id = _id(private)
    label = None if key_id else _label(private)
    halves = _objects(session, ObjectClass.PUBLIC_KEY, label, key_id or None)
    if not halves:
        raise Unavailable(
            Code.TOKEN_KEY_MISSING,
            subject,
            expected="its public key beside it, with the same CKA_ID",
            found="the private key alone",
        )
    public = _only(halves, f"public half of {subject}")
    try:
        return PublicKey(_encoded(public, subject))
    except FormatRefused as error:
        raise error.about(subject) from error


def _encoded(public: pkcs11.Object, subject: str) -> bytes:
    """What PublicKey takes, or refuses: another size or exponent of RSA is not wrapped rightly here."""
    kind = _kind(public)
    if kind == KeyType.RSA.name:
        exponent = int.from_bytes(_bytes(public, Attribute.PUBLIC_EXPONENT), "big")
        modulus = _bytes(public, Attribute.MODULUS).lstrip(b"\0")
        if exponent == RSA_EXPONENT and len(modulus) * 8 == RSA_BITS:
            return RSA3072_PKCS1_PREFIX + modulus + RSA3072_PKCS1_SUFFIX
        found = f"RSA-{len(modulus) * 8} with the exponent {exponent}"
    elif kind == KeyType.EC.name:
        parameters = _bytes(public, Attribute.EC_PARAMS)
        if parameters == P256_PARAMS:
            return P256_SPKI_PREFIX[:-1] + _point(_bytes(public, Attribute.EC_POINT))
        found = f"EC parameters {parameters.hex()}"
    else:
        found = kind
    raise FormatRefused(Code.KEY_FORMAT, subject, expected="ECDSA P-256 or RSA-3072", found=found)


def _point(value: bytes) -> bytes:
    """CKA_EC_POINT is a DER OCTET STRING around the point; some tokens leave the wrapping out."""
    return value[2:] if value[:2] == b"\x04\x41" and len(value) == 67 else value


def _flag(key: pkcs11.Object, name: Attribute, *, default: bool = False) -> bool:
    """A token that does not answer is taken at its worst."""
    try:
        return bool(key[name])
    except ck.AttributeTypeInvalid:
        return default


def _bytes(key: pkcs11.Object, name: Attribute) -> bytes:
    try:
        value: bytes = key[name]
    except ck.AttributeTypeInvalid:
        return b""
    return value


def _id(key: pkcs11.Object) -> bytes:
    return _bytes(key, Attribute.ID)


def _label(key: pkcs11.Object) -> str:
    """Labels with bytes that are no text exist (opencryptoki 3.8.1)."""
    try:
        label: str = key[Attribute.LABEL]
    except (UnicodeDecodeError, ck.AttributeTypeInvalid):
        return "(unreadable)"
    return label


def _kind(key: pkcs11.Object) -> str:
    try:
        kind: KeyType = key[Attribute.KEY_TYPE]
    except ValueError:
        return "a type of the token's maker"
    return kind.name
