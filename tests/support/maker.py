"""A maker in memory or in a folder: keys of the test's own, both repositories, images that are signed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core import image, wire
from cellward.core.errors import Code, Unavailable
from cellward.core.image import KeyTlv, Version
from cellward.core.image.protected import NO_EXTRAS, Extras
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.metadata import Ecu, EcuReport, Installed, Manifest, Target, encode_manifest
from cellward.core.slots import HARDWARE, Stage
from cellward.ports.registry import Certificate, Registry, Token, Vehicle
from cellward.publish.director import Director
from cellward.publish.gate import Gate
from cellward.publish.images import ImageRepository
from cellward.publish.verifiers import CoreVerifier
from tests.fakes.registry import MemoryRegistry
from tests.fakes.store import MemoryStore

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
APP, LOADER = Ecu("m1/app", "bms-m33"), Ecu("m1/loader", "bms-m33")


PrivateKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
GENERATORS: dict[Algorithm, Callable[[], PrivateKey]] = {
    Algorithm.P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    Algorithm.P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    Algorithm.RSA_3072: lambda: rsa.generate_private_key(65537, 3072),
    Algorithm.ED25519: ed25519.Ed25519PrivateKey.generate,
    Algorithm.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
    Algorithm.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
}


@dataclass
class Hand:
    """A Signer whose key the test holds. `lost`: the token has been pulled out."""

    name: str = "hand"
    key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)
    lost: bool = False
    signatures: int = 0

    @classmethod
    def of(cls, algorithm: Algorithm, name: str = "hand") -> "Hand":
        return cls(name, GENERATORS[algorithm]())

    @property
    def uri(self) -> str:
        return f"test:{self.name}"

    @property
    def public_key(self) -> PublicKey:
        return PublicKey.from_cryptography(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        if self.lost:
            raise Unavailable(Code.TOKEN_ABSENT, "token of the test", expected="it", found="none")
        self.signatures += 1
        over = Prehashed(hashes.SHA384() if len(data) == 48 else hashes.SHA256())
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), over)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(over))
        return self.key.sign(data)


@dataclass
class Keys:
    """Every role's signer, made when first asked for."""

    hands: dict[str, Hand] = field(default_factory=dict)

    def __call__(self, name: str) -> Hand:
        return self.hands.setdefault(name, Hand(name))

    def lose(self, *, lost: bool = True) -> None:
        for hand in self.hands.values():
            hand.lost = lost


def firmware(keys: Keys) -> dict[bytes, PublicKey | None]:
    key = keys("firmware").public_key
    return {key.key_hash: key}


def gate(keys: Keys) -> Gate:
    """With core's verifier alone, which tests/contract/test_verifier_port.py holds to the module's."""
    return Gate(frozenset(firmware(keys)), CoreVerifier())


def program(payload: bytes, hardware: str, stage: Stage, header_size: int = 0x200) -> bytes:
    """`payload` behind a vector table, as a module wants it."""
    board = HARDWARE[hardware]
    linked = board.active_base + board.slot(stage).offset + header_size
    return wire.u32(board.ram_base + board.ram_size) + wire.u32(linked + 8 | 1) + payload


def signed_image(
    keys: Keys,
    version: str = "1.4.0",
    counter: int = 7,
    *,
    stage: Stage = Stage.APP,
    hardware: str = "bms-m33",
    payload: bytes = b"firmware" * 16,
    header_size: int = 0x200,
    class_id: bytes | None = None,
    encrypted: bool = False,
    key_tlv: KeyTlv = KeyTlv.BOTH,
    extras: Extras = NO_EXTRAS,
) -> bytes:
    board = HARDWARE[hardware]
    hand = keys("firmware")
    unsigned = image.build(
        program(payload, hardware, stage, header_size),
        version=Version.parse(version),
        counter=counter,
        hardware=(board.vendor_id, class_id or board.class_id(stage)),
        header_size=header_size,
        encrypted=encrypted,
        extras=extras,
    )
    return unsigned.signed(hand.public_key, hand.sign(unsigned.digest), key_tlv)


@dataclass
class Maker:
    """Both repositories over stores in memory."""

    keys: Keys = field(default_factory=Keys)
    metadata: MemoryStore = field(default_factory=MemoryStore)
    artefacts: MemoryStore = field(default_factory=MemoryStore)
    roots: MemoryStore = field(default_factory=MemoryStore)
    wrapped: MemoryStore = field(default_factory=MemoryStore)
    registry: Registry = field(default_factory=MemoryRegistry)
    lock: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def images(self) -> ImageRepository:
        return ImageRepository(self.metadata, self.artefacts, self.keys, self.lock)

    @property
    def director(self) -> Director:
        return Director(self.roots, self.registry, self.keys, self.wrapped)

    def init(self, now: datetime = NOW) -> "Maker":
        self.images.init(now)
        self.director.init(now)
        return self

    def publish(self, *data: bytes, now: datetime = NOW) -> tuple[Target, ...]:
        files = {f"image {number}": each for number, each in enumerate(data)}
        return self.images.publish(files, gate(self.keys), now)


def enrol(
    registry: Registry,
    vehicle_id: str = "PACK-1",
    key: PublicKey | None = None,
    ecus: tuple[Ecu, ...] = (APP, LOADER),
    serial: str = "5e",
) -> Vehicle:
    """Past the server: the vehicle is simply there."""
    digest = f"{vehicle_id}{serial}".encode().ljust(32)
    registry.add_token(Token(digest, vehicle_id, NOW + timedelta(days=1)))
    certificate = Certificate(serial, vehicle_id, key or Hand().public_key, NOW + timedelta(days=30))
    return registry.enrol(digest, certificate, ecus, NOW)


def manifest(
    hand: Hand,
    vehicle_id: str = "PACK-1",
    counter: int = 1,
    ecus: tuple[Ecu, ...] = (APP, LOADER),
    installed: Installed | None = None,
    now: datetime = NOW,
) -> bytes:
    """As the pack controller signs it: one key vouches for every ECU."""
    reports = tuple(
        _signed(EcuReport(ecu_id, counter, now, installed), hand)
        for ecu_id in (vehicle_id, *(ecu.ecu_id for ecu in ecus))
    )
    made = Manifest(vehicle_id, counter, now, reports)
    return encode_manifest(made.signed_by(hand.public_key, hand.sign(made.digest)))


def _signed(report: EcuReport, hand: Hand) -> EcuReport:
    return report.signed_by(hand.public_key, hand.sign(report.digest))
