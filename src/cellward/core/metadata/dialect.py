"""What the files of a repository may say: TUF as it is specified, and the narrower dialect of vehicles.

`core.metadata.parse` asks for every signature, key, role, file and target. What TUF admits, python-tuf
can hold; `Uptane` admits less, so that no metadata can choose a weaker key or another reading.
"""

import re
from collections.abc import Mapping

from cellward.core.errors import FormatRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.metadata.roles import DELEGATED_NAME, RULES, Role
from cellward.core.metadata.target import MAX_HARDWARE_IDS, MAX_LENGTH, SEGMENT, check_target_name
from cellward.core.strictjson import SHA256_HEX, Fields, refuse

KEY_TYPE = "ecdsa"
KEY_SCHEME = "ecdsa-sha2-nistp256"
# What each scheme is called, and which of securesystemslib's keys is asked: one kind, one meaning.
TUF_KINDS = frozenset(
    {
        ("ed25519", "ed25519"),
        (KEY_TYPE, KEY_SCHEME),
        (KEY_SCHEME, KEY_SCHEME),  # as older repositories write it
        ("rsa", "rsassa-pss-sha256"),
    }
)
HASHES = {"sha256": SHA256_HEX, "sha512": re.compile(r"[0-9a-f]{128}", re.ASCII)}
_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
_SIGNATURE = re.compile(r"(?:[0-9a-f]{2}){8,72}", re.ASCII)
_META_NAME = re.compile(rf"{DELEGATED_NAME.pattern}\.json", re.ASCII)
_PREFIX = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_PATTERN = re.compile(r"[a-z0-9.+_*?-]{1,128}/[a-z0-9.+_*?-]{1,128}", re.ASCII)
_MIB = 1024 * 1024


class Tuf:
    """TUF 1.0.34 as it is written, with succinct roles (TAP 15)."""

    limits: Mapping[Role, int] = {
        Role.ROOT: _MIB,
        Role.TIMESTAMP: RULES[Role.TIMESTAMP].limit,
        Role.SNAPSHOT: 4 * _MIB,
        Role.TARGETS: RULES[Role.TARGETS].limit,
    }
    max_files = max_roles = max_paths = 65536
    kinds = TUF_KINDS
    normal = False
    # TUF 5.4.3.1 drops another timestamp of the version that is held, and knows Targets of before only by
    # what the snapshot lists; Uptane compares both with what is held.
    compares_with_held = False

    def envelope(self, envelope: Fields) -> None:
        """Unknown fields stay: they are not signed, and nobody reads them."""

    def signature(self, entry: Fields) -> None:
        entry.text("keyid")
        entry.text("sig", limit=8192)  # perhaps empty: a place for one that is still to come

    def root(self, signed: Fields) -> None:
        if "consistent_snapshot" in signed:
            signed.boolean("consistent_snapshot")

    def key(self, key: Fields) -> None:
        """Of a kind that is known here. Whether the value is a key is seen when it verifies something."""
        key.fields("keyval").text("public", limit=8192)

    def unknown_key(self, key: Fields) -> None:
        """It is signed with the rest, and verifies nothing (TUF 4.2)."""

    def role(self, entry: Fields, keys: Fields) -> None:
        """Perhaps with key ids without a key, or a threshold out of reach: then it can sign nothing."""

    def meta_name(self, name: str, what: str) -> None:
        if not name.endswith(".json"):
            refuse(what, "names of metadata files", repr(name[:80]))

    def meta_file(self, entry: Fields, role: Role) -> None:
        if "hashes" in entry:
            self.hashes(entry)

    def hashes(self, entry: Fields) -> None:
        """At least one that can be checked here."""
        hashes = entry.fields("hashes")
        for name in hashes.names():
            hashes.text(name, HASHES.get(name))
        if not any(name in HASHES for name in hashes.names()):
            refuse(entry.what, f"a hash of {', '.join(HASHES)}", "none")

    def target(self, name: str, entry: Fields) -> None:
        entry.integer("length")
        self.hashes(entry)

    def delegated(self, entry: Fields) -> None:
        if not entry.text("name"):
            refuse(entry.what, "a name", "an empty one")

    def paths(self, entry: Fields) -> None:
        """Texts already; what they match is python-tuf's fnmatch, segment by segment."""


class Uptane(Tuf):
    """docs/formats/uptane.md."""

    limits: Mapping[Role, int] = {role: rule.limit for role, rule in RULES.items()}
    max_files = 4096
    max_roles = 256  # of one delegator
    max_paths = 64  # of one role: every pattern costs time, whoever signed it
    kinds = frozenset({(KEY_TYPE, KEY_SCHEME)})
    normal = True
    compares_with_held = True

    def envelope(self, envelope: Fields) -> None:
        envelope.finish()

    def signature(self, entry: Fields) -> None:
        entry.text("keyid", _ID)
        entry.text("sig", _SIGNATURE)
        entry.finish()

    def root(self, signed: Fields) -> None:
        if signed.value("consistent_snapshot") is not True:
            refuse(signed.what, "consistent snapshots", repr(signed.value("consistent_snapshot"))[:40])

    def key(self, key: Fields) -> None:
        pem = key.fields("keyval").text("public")
        try:
            PublicKey.from_pem(pem.encode()).require([Algorithm.P256], key.what)
        except FormatRefused as error:
            refuse(key.what, "an ECDSA P-256 key in PEM", error.found)

    def unknown_key(self, key: Fields) -> None:
        """One algorithm, so that no metadata can choose a weaker one (POUF)."""
        found = f"{key.text('keytype')[:40]!r}, {key.text('scheme')[:40]!r}"
        refuse(key.what, f"keytype {KEY_TYPE}, scheme {KEY_SCHEME}", found)

    def role(self, entry: Fields, keys: Fields) -> None:
        key_ids = entry.texts("keyids", _ID, 64)
        entry.integer("threshold", 1, len(key_ids))
        if any(key_id not in keys for key_id in key_ids):
            refuse(entry.what, "the key of each key id", "a key id without a key")

    def meta_name(self, name: str, what: str) -> None:
        if not _META_NAME.fullmatch(name):
            refuse(what, "names of metadata files", repr(name[:80]))

    def meta_file(self, entry: Fields, role: Role) -> None:
        """A12: the timestamp names a hash; in a snapshot it is optional."""
        if "length" in entry:
            entry.integer("length", 1)
        if role is Role.TIMESTAMP or "hashes" in entry:
            entry.sha256("hashes")

    def target(self, name: str, entry: Fields) -> None:
        check_target_name(name)
        entry.integer("length", 1, MAX_LENGTH)
        entry.sha256("hashes")

    def delegated(self, entry: Fields) -> None:
        entry.text("name", DELEGATED_NAME)
        if "custom" in entry:
            custom = entry.fields("custom")
            if "hardware_ids" in custom:
                custom.texts("hardware_ids", SEGMENT, MAX_HARDWARE_IDS)

    def paths(self, entry: Fields) -> None:
        name, form = ("paths", _PATTERN) if "paths" in entry else ("path_hash_prefixes", _PREFIX)
        entry.texts(name, form, self.max_paths)


TUF = Tuf()
UPTANE = Uptane()
