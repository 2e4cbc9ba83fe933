"""What the fuzzers start from: the vectors, and for each parser one of every kind of good input."""

import hmac
from collections.abc import Iterator

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core import vault, wire
from cellward.core.image.encryption import encrypt, wrap
from cellward.core.ladder import vault_keys
from cellward.core.revocation import Revocation, signed_digest
from cellward.core.slots import Stage
from cellward.ports.updatelink import MAX_DATA, Request, encode_request
from firmware.fuzz.judge import VAULT_KEY
from firmware.fuzz.world import COUNTER, World
from vectors.recipe import TrustSpec, load

LARGEST = {"image": 4096, "revocation": 640, "vault": 4 + 2 * 1200, "link": 8192}
CONTENT_KEY = bytes(range(16))


def _trust(spec: TrustSpec) -> bytes:
    revoked = sum(1 << slot for slot in spec.revoked)
    keys = b"".join(spec.key_hashes).ljust(128, b"\0")
    return (
        wire.u32(revoked)
        + wire.u32(spec.counter or 0)
        + keys
        + (spec.vendor or bytes(16))
        + (spec.klass or bytes(16))
    )


def image(_world: World) -> Iterator[bytes]:
    vectors = load("image")
    for case in vectors.cases:
        for behind in (0, 64):
            if len(case.data) + 172 <= LARGEST["image"]:
                yield wire.u32(behind) + _trust(vectors.trusts[case.trust]) + case.data


def _revocation(world: World, key_hash: bytes, signers: tuple[int, ...]) -> bytes:
    quorum = world.quorum
    digest = signed_digest(quorum, key_hash)
    by_point = {key.public.spki[-65:]: key for key in world.roots}
    raw = {}
    for index in signers:
        r, s = by_point[quorum.points[index]].sign_raw(digest)
        raw[index] = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return Revocation(quorum, key_hash, raw).encode()


def revocation(world: World) -> Iterator[bytes]:
    hashes = (*world.slot_keys[:3], bytes(range(32)))
    for key_hash in hashes:
        for signers in ((0, 1), (1, 2), (0, 1, 2)):
            for circumstances in (0, 1, 0b10, 0b110, 0b10_0000):
                yield bytes([circumstances]) + _revocation(world, key_hash, signers)


def open_vault(_world: World) -> Iterator[bytes]:
    for name in vault.Name:
        for committed, counters in ((0, (1, 0)), (3, (3, 4)), (3, (4, 3)), (9, (9, 7)), (255, (255, 256))):
            blocks = [
                vault.encode(name, VAULT_KEY, vault.Block(2, counter, b"\x01\x02\x03" * 9), bytes(range(16)))
                for counter in counters
            ]
            yield bytes([name, committed]) + wire.u16(len(blocks[0])) + b"".join(blocks)
        for block in _longest(name):
            yield bytes([name, 1]) + wire.u16(len(block)) + block


def _longest(name: vault.Name) -> Iterator[bytes]:
    """A block with the longest value, and one longer by a byte, sealed as well."""
    block = vault.encode(name, VAULT_KEY, vault.Block(2, 1, bytes(vault.MAX_VALUE)), bytes(vault.NONCE_SIZE))
    yield block
    longer = bytearray(block[: -vault.TAG_SIZE] + b"\0")
    longer[16:20] = wire.u32(vault.MAX_VALUE + 1)
    yield bytes(longer) + hmac.digest(vault_keys(VAULT_KEY, name)[1], longer, "sha256")


def _frames(*frames: bytes) -> bytes:
    return b"".join(wire.u16(len(frame)) + frame for frame in frames)


def _image(stage: Stage, data: bytes, key: bytes = b"", size: int = MAX_DATA) -> list[bytes]:
    head = bytes([list(Stage).index(stage), len(key), 0, 0]) + wire.u32(len(data)) + key
    chunks = [wire.u32(at) + data[at : at + size] for at in range(0, len(data), size)]
    return [
        encode_request(Request.IMAGE, 1, head),
        *(encode_request(Request.DATA, 1, chunk) for chunk in chunks),
    ]


def _updates(world: World) -> Iterator[list[bytes]]:
    loader = _image(Stage.LOADER, world.signed(Stage.LOADER))
    point = world.update.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    wrapped = wrap(CONTENT_KEY, point, ec.generate_private_key(ec.SECP256R1()))
    secret = encrypt(world.signed(Stage.APP, encrypted=True), CONTENT_KEY)
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP))]
    yield [*loader, *_image(Stage.APP, secret, wrapped)]
    yield [*loader, *_image(Stage.APP, secret, wrapped, 512)]
    yield [*loader, *_image(Stage.APP, secret, wrapped, 40)]  # no whole blocks
    yield [*loader, *_image(Stage.APP, secret)]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP), wrapped)]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP, COUNTER + 1))]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP, COUNTER - 1))]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP, slot=1))]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP, entry=0x40))]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP, entry=0x101))]
    yield [*loader, *_image(Stage.APP, world.signed(Stage.APP, stack=0x2000_0004))]
    yield [
        encode_request(Request.COPY, 1, bytes([0, 0, 0, 0])),
        encode_request(Request.COPY, 1, bytes([1, 0, 0, 0])),
    ]
    yield [encode_request(Request.COPY, 1, bytes([0, 0, 0, 0])), *_image(Stage.APP, secret, wrapped)]


def link(world: World) -> Iterator[bytes]:
    begin, finish = encode_request(Request.BEGIN, 1, bytes(4)), encode_request(Request.FINISH, 1)
    digests = [encode_request(Request.DIGEST, 1, bytes([1, stage, 0, 0])) for stage in (0, 1)]
    revoke = encode_request(Request.REVOKE, 1, _revocation(world, world.slot_keys[1], (0, 1)))
    for circumstances in range(4):
        for update in _updates(world):
            yield bytes([circumstances]) + _frames(begin, *update, finish)
        some = (encode_request(request, 1) for request in Request)
        yield bytes([circumstances]) + _frames(*some)
        yield bytes([circumstances]) + _frames(revoke, begin, *_image(Stage.LOADER, b"\0" * 64), *digests)
        ordered = encode_request(Request.BEGIN, 1, wire.u16(3) + bytes(5))
        yield bytes([circumstances]) + _frames(begin, ordered, ordered[:-1], finish, ordered)
        yield bytes([circumstances]) + _frames(*digests, encode_request(Request.IDENTIFY, 7), revoke)


SEEDS = {"image": image, "revocation": revocation, "vault": open_vault, "link": link}
