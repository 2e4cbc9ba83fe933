"""The key objects of a token as values: what the token says of a private key, and its public half."""

from collections.abc import Sequence

from cellward.adapters.pkcs11.kinds import PublicObject, encoded
from cellward.adapters.pkcs11.vendor import Attribute, KeyType, ObjectClass, ck, pkcs11
from cellward.core.errors import Code, FormatRefused, Refused, Unavailable
from cellward.core.keys import PublicKey
from cellward.ports.signer import KeyAttributes, StoredKey


def _objects(
    session: pkcs11.Session, kind: ObjectClass, label: str | None, key_id: bytes | None
) -> list[pkcs11.Object]:
    template: dict[Attribute, object] = {Attribute.CLASS: kind}
    template |= {} if label is None else {Attribute.LABEL: label}
    template |= {} if key_id is None else {Attribute.ID: key_id}
    # The whole list at once: a search that is left open blocks the session.
    return list(session.get_objects(template))


def private_keys(
    session: pkcs11.Session, label: str | None = None, key_id: bytes | None = None
) -> list[pkcs11.Object]:
    return _objects(session, ObjectClass.PRIVATE_KEY, label, key_id)


def only_one(keys: Sequence[pkcs11.Object], subject: str) -> pkcs11.Object:
    if len(keys) > 1:
        raise Refused(
            Code.TOKEN_AMBIGUOUS,
            subject,
            expected="one key",
            found=f"{len(keys)}: "
            + ", ".join(sorted(f"{label_of(key)} (id {_id(key).hex() or 'none'})" for key in keys)),
            advice="add object=… or id=… (percent-encoded) to the URI, or remove one",
        )
    return keys[0]


def stored_key(session: pkcs11.Session, private: pkcs11.Object) -> StoredKey:
    label = label_of(private)
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
    label = None if key_id else label_of(private)
    halves = _objects(session, ObjectClass.PUBLIC_KEY, label, key_id or None)
    if not halves:
        raise Unavailable(
            Code.TOKEN_KEY_MISSING,
            subject,
            expected="its public key beside it, with the same CKA_ID",
            found="the private key alone",
        )
    public = only_one(halves, f"public half of {subject}")
    try:
        return PublicKey(encoded(_read(public), subject))
    except FormatRefused as error:
        raise error.about(subject) from error


def _read(public: pkcs11.Object) -> PublicObject:
    return PublicObject(
        _type(public),
        parameters=_bytes(public, Attribute.EC_PARAMS),
        point=_bytes(public, Attribute.EC_POINT),
        modulus=_bytes(public, Attribute.MODULUS),
        exponent=_bytes(public, Attribute.PUBLIC_EXPONENT),
    )


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


def label_of(key: pkcs11.Object) -> str:
    """Labels with bytes that are no text exist (opencryptoki 3.8.1)."""
    try:
        label: str = key[Attribute.LABEL]
    except (UnicodeDecodeError, ck.AttributeTypeInvalid):
        return "(unreadable)"
    return label


def _type(key: pkcs11.Object) -> str:
    try:
        kind: KeyType = key[Attribute.KEY_TYPE]
    except ValueError:
        return "a type of the token's maker"
    return kind.name
