"""Who exists in the vectors: three keys of the maker in the fuses, one of them revoked, and a stranger."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from cellward.core.slots import BMS_M33, BMS_M33_18S, Stage
from vectors.forge import CLASS, COUNTER, VENDOR, Draft, Key, RsaKey, Sealed
from vectors.recipe import Case, TrustSpec

OTHER_VENDOR = hashlib.sha256(b"another vendor").digest()[:16]
APP_CLASS = BMS_M33.class_id(Stage.APP)
OTHER_CLASS = BMS_M33_18S.class_id(Stage.LOADER)

Cases = Iterator[Case]


def forged(spki: bytes) -> tuple[bytes, bytes]:
    """Bytes that are no key, and the hash that a fuse would hold of them."""
    return spki, hashlib.sha256(spki).digest()


@dataclass(frozen=True)
class World:
    """Keys made for one generation; nothing private leaves this object."""

    maker: Key = field(default_factory=Key.make)
    second: Key = field(default_factory=Key.make)
    revoked: Key = field(default_factory=Key.make)
    stranger: Key = field(default_factory=Key.make)
    rsa: RsaKey = field(default_factory=RsaKey.make)
    rsa_stranger: RsaKey = field(default_factory=RsaKey.make)

    @cached_property
    def good(self) -> Sealed:
        """Its last byte is not that of erased flash, so that cutting it off shows."""
        while (sealed := Draft().seal(self.maker)).write()[-1] == 0xFF:
            pass
        return sealed

    @cached_property
    def good_rsa(self) -> Sealed:
        while (sealed := Draft().seal(self.rsa)).write()[-1] == 0xFF:
            pass
        return sealed

    @cached_property
    def rsa_device(self) -> TrustSpec:
        """A device with a key of each kind."""
        hashes = (self.maker.public.key_hash, self.rsa.public.key_hash)
        return replace(self.device, key_hashes=hashes, revoked=())

    @cached_property
    def device(self) -> TrustSpec:
        hashes = tuple(key.public.key_hash for key in (self.maker, self.second, self.revoked))
        return TrustSpec(hashes, (2,), COUNTER, VENDOR, CLASS)

    @cached_property
    def off_curve(self) -> bytes:
        spki = self.maker.public.spki
        return spki[:-1] + bytes([spki[-1] ^ 1])

    @cached_property
    def unreduced(self) -> bytes:
        """A point whose x is written as x + p. It exists for small x only."""
        p = 2**256 - 2**224 + 2**192 + 2**96 - 1
        b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
        for x in range(100):
            square = (x**3 - 3 * x + b) % p
            y = pow(square, (p + 1) // 4, p)
            if y * y % p == square:
                break
        else:
            raise AssertionError("no point with a small x")
        point = (x + p).to_bytes(32, "big") + y.to_bytes(32, "big")
        return self.maker.public.spki[:27] + point

    @cached_property
    def trusts(self) -> dict[str, TrustSpec]:
        device, maker = self.device, self.maker.public.key_hash
        odd = {
            "off_curve": self.off_curve,
            "unreduced": self.unreduced,
            "zero_point": self.maker.public.spki[:27] + bytes(64),
            "hybrid": self.maker.public.spki[:26] + b"\x06" + self.maker.public.spki[27:],
            "raw_point": self.maker.public.spki[26:],
        }
        return {
            "device": device,
            "counter_0": replace(device, counter=0),
            "one_slot_revoked": replace(device, key_hashes=(maker, maker), revoked=(1,)),
            "all_revoked": replace(device, revoked=(0, 1, 2)),
            "rsa": self.rsa_device,
            "rsa_revoked": replace(self.rsa_device, revoked=(1,)),
            "no_keys": replace(device, key_hashes=(), revoked=()),
            **{
                name: replace(device, key_hashes=(forged(spki)[1],), revoked=()) for name, spki in odd.items()
            },
        }

    @cached_property
    def reader_trusts(self) -> dict[str, TrustSpec]:
        maker = self.maker.public
        return {
            "named": TrustSpec(keys=(maker.encoded,)),
            "named_rsa": TrustSpec(keys=(self.rsa.public.encoded,)),
            "named_counter": TrustSpec(keys=(maker.encoded,), counter=COUNTER),
            "named_hardware": TrustSpec(keys=(maker.encoded,), vendor=VENDOR, klass=CLASS),
            "hash": TrustSpec(key_hashes=(maker.key_hash,)),
            "nobody": TrustSpec(),
        }
