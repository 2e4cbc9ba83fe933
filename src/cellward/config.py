"""Where the maker's things lie: one data directory, `--data` or CELLWARD_DATA."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The maker's data directory. Everything in it is made on first use."""

    root: Path

    @property
    def tokens(self) -> Path:
        """SoftHSM's objects, when no other module is configured."""
        return self.root / "tokens"

    @property
    def softhsm_config(self) -> Path:
        return self.root / "softhsm2.conf"

    @property
    def pin(self) -> Path:
        """The token's PIN, mode 0600; CELLWARD_PIN or CELLWARD_PIN_FILE stand before it."""
        return self.root / "pin"

    @property
    def image_repository(self) -> Path:
        return self.root / "images"

    @property
    def artefacts(self) -> Path:
        return self.root / "artefacts"

    @property
    def director_repository(self) -> Path:
        """The Director's root metadata; what it orders per vehicle is in the database."""
        return self.root / "director"

    @property
    def profiles(self) -> Path:
        """Target profiles, HARDWARE.toml, for the publish gate (docs/formats/target-profile.md)."""
        return self.root / "profiles"

    @property
    def database(self) -> Path:
        return self.root / "cellward.db"

    @property
    def content_keys(self) -> Path:
        """Of encrypted images; secrets, mode 0600. No server reads them."""
        return self.root / "content-keys"

    @property
    def wrapped_keys(self) -> Path:
        """The same, wrapped for one module each: what the Director gives out."""
        return self.root / "wrapped-keys"

    @property
    def modules(self) -> Path:
        """Registrations as the plant made them; the keys in them are secrets, mode 0600."""
        return self.root / "modules"

    @property
    def releases(self) -> Path:
        """What was published as a release, and what was withdrawn: a folder each, by the release's hash."""
        return self.root / "releases"

    @property
    def measured(self) -> Path:
        """Each module's newest boot records that were authentic."""
        return self.root / "measured"

    @property
    def agents(self) -> Path:
        """Digests of agents' code that packs may start with: what is known as what, by digest."""
        return self.root / "agents"

    @property
    def tpm_manufacturers(self) -> Path:
        """Certificates, DER, of who may certify packs' TPMs, by SHA-256."""
        return self.root / "tpm-manufacturers"

    @property
    def authorities(self) -> Path:
        """Certificates of the two CAs; their keys are in the token."""
        return self.root / "ca"

    @property
    def server_ca_statements(self) -> Path:
        """Which server CAs packs are to accept: every version, signed by the root."""
        return self.root / "server-cas"

    @property
    def signing_log(self) -> Path:
        """What was given to a key to sign, as a C2SP tlog; its lock and journal beside it."""
        return self.root / "signing-log"

    @property
    def key_register(self) -> Path:
        """Every version of the key register, one a line."""
        return self.root / "key-register.jsonl"

    @property
    def ceremonies(self) -> Path:
        """The transcript of each version's ceremony, by its number."""
        return self.root / "ceremonies"

    @property
    def register_lock(self) -> Path:
        """Held by whoever installs a version of the register."""
        return self.root / "key-register.lock"

    @property
    def image_lock(self) -> Path:
        """Held by whoever writes the Image repository."""
        return self.root / "images.lock"
