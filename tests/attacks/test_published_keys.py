"""Attack 15: the private half is in a standard, and everything else about the key is in order.

The thief holds the example key of RFC 6979 (section A.2.5) as everybody does. Each test ends with what is
there after the refusal.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Timestamp

from cellward import bootstrap
from cellward.adapters.plugins import PluginSigner
from cellward.adapters.softkeys import SoftSigner
from cellward.cli.main import cellward
from cellward.core import envelope, register
from cellward.core.envelope import Envelope
from cellward.core.errors import CellwardError, Code
from cellward.core.image import Trust, decode, verify, verify_stated
from cellward.core.keys import KeyStage, PublicKey, Role
from cellward.core.metadata import (
    Factory,
    Repository,
    RoleKeys,
    digest_to_sign,
    encode,
    encode_factory,
    make_root,
    parse_root,
    parse_timestamp,
)
from cellward.core.metadata import Role as MetadataRole
from cellward.core.metadata.factory import OPTIONAL_KEYS
from cellward.core.register import Register, Root, State
from cellward.core.register.values import in_order
from cellward.core.slots import BMS_M33
from cellward.core.trust import load, update_root, update_timestamp
from cellward.server.ca import csr_key
from cellward.sign.wrapping import wrap_for_all
from cellward.vbms.plant import Order, provision
from tests.fakes.module import FakeModule
from tests.fakes.store import MemoryStore
from tests.firmware.rig import KEY, release
from tests.support import ceremony, hsm, uptane
from tests.support.ceremony import DAY, House, entry
from tests.support.firmware import LINK, hex_file
from tests.support.maker import Hand
from vectors.forge import Draft, Key

SCALAR = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
PRIVATE = ec.derive_private_key(SCALAR, ec.SECP256R1())
THIEF, FORGER, OWNER = Hand("thief", PRIVATE), Key(PRIVATE), uptane.Holder(PRIVATE)
PUBLIC = THIEF.public_key
FILE = envelope.make("release", {"name": "R1"})
OPTIONS = ("--version", "1.4.0", "--counter", "7", "--hardware", "bms-m33")
PEM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


def refused(attempt: Callable[[], object], where: str = "RFC 6979 A.2.5") -> CellwardError:
    with pytest.raises(CellwardError) as error:
        attempt()
    assert error.value.code is Code.KEY_PUBLISHED
    assert where in error.value.found
    return error.value


def everything(folder: Path) -> dict[Path, bytes]:
    """But the token's own files: logging in writes to them."""
    files = (path for path in folder.rglob("*") if path.is_file() and "tokens" not in path.parts)
    return {path: path.read_bytes() for path in files}


# --- signing ---


def test_a_token_does_not_sign_with_it(tmp_path: Path) -> None:
    """Imported as sensitive and not extractable: all that the token says of the key is good."""
    home = hsm.make_home(tmp_path / "data")
    (tmp_path / "demo.pem").write_bytes(PRIVATE.private_bytes(*PEM))
    names = (
        "--token",
        "cellward",
        "--label",
        "firmware",
        "--id",
        "07",
        "--pin",
        home.pin.read_text().strip(),
    )
    subprocess.run(
        ["softhsm2-util", "--import", str(tmp_path / "demo.pem"), *names],
        env={"SOFTHSM2_CONF": str(home.softhsm_config), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    held = hsm.store_of(home).find("firmware")
    assert held is not None
    assert (held.public_key, held.attributes.confined) == (PUBLIC, True)
    (tmp_path / "app.hex").write_bytes(hex_file((LINK, bytes(64))))
    before = everything(tmp_path)
    refused(lambda: bootstrap.signer(home, hsm.FIRMWARE))
    options = (*OPTIONS, "-o", str(tmp_path / "app.img"))
    for key in ((), ("--key", hsm.FIRMWARE)):
        arguments = ["--data", home.root, "image", "sign", tmp_path / "app.hex", *options, *key]
        error = CliRunner().invoke(cellward, list(map(str, arguments))).exception
        assert isinstance(error, CellwardError)
        assert error.code is Code.KEY_PUBLISHED
    assert everything(tmp_path) == before  # no image, and nothing in the signing log


def test_a_file_s_key_does_not_sign(tmp_path: Path) -> None:
    """ML-DSA-65 of the seed 00 01 … 1f, as the examples of RFC 9881 have it."""
    path = tmp_path / "key"
    path.write_bytes(mldsa.MLDSA65PrivateKey.from_seed_bytes(bytes(range(32))).private_bytes(*PEM))
    path.chmod(0o600)
    refused(lambda: SoftSigner(f"softkey:{path}"), "00 counting")


def test_a_foreign_signer_does_not_sign_with_it() -> None:
    refused(lambda: PluginSigner("cloud:key", THIEF, "package 1.0"))
    assert THIEF.signatures == 0


# --- trust where it is used ---


@pytest.mark.parametrize("known", [PUBLIC, None], ids=["key held", "hash held"])
@pytest.mark.parametrize("check", [verify, verify_stated])
def test_an_image(known: PublicKey | None, check: Callable[..., object]) -> None:
    image = decode(Draft().seal(FORGER).write())
    error = refused(lambda: check(image, Trust({PUBLIC.key_hash: known}), "app.img"))
    assert error.subject == "app.img"
    honest = Key.make()
    both = Trust({PUBLIC.key_hash: known, honest.public.key_hash: honest.public})
    assert check(decode(Draft().seal(honest).write()), both)  # the other slot's images still boot


def test_a_document() -> None:
    signature = envelope.Signature(PUBLIC.fingerprint, THIEF.sign(PUBLIC.to_sign(FILE.pae)))
    signed = Envelope(FILE.payload_type, FILE.payload, (signature,))
    refused(lambda: signed.signers([PUBLIC], "release"))
    refused(lambda: FILE.signed_by(PUBLIC, signature.value))


def test_other_algorithms() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    hand = Hand("rfc", ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    signature, key = hand.sign(b"checkpoint"), hand.public_key
    refused(lambda: key.verify(b"checkpoint", signature, code=Code.LOG_SIGNATURE, subject="log"), "RFC 8032")


def root_that_names(role: MetadataRole, *, threshold: int) -> bytes:
    """An honest root's version 2, into which the key came beside the role's own."""
    tree = json.loads(uptane.IMAGE_OWNER.root(2, signers=[]))
    key = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": PUBLIC.pem().decode()}}
    tree["signed"]["keys"][PUBLIC.fingerprint] = key
    tree["signed"]["roles"][role]["keyids"].append(PUBLIC.fingerprint)
    tree["signed"]["roles"][role]["threshold"] = threshold
    data = json.dumps(tree).encode()
    return uptane.sign(parse_root(data), uptane.holder("root-1"), uptane.holder("root-2"))


def signed_by_it(metadata: Metadata[Timestamp]) -> Metadata[Timestamp]:
    made = Signature(PUBLIC.fingerprint, OWNER.sign(digest_to_sign(metadata)).hex())
    return Metadata(metadata.signed, {**metadata.signatures, PUBLIC.fingerprint: made})


def test_metadata() -> None:
    state = uptane.start(uptane.IMAGE_OWNER)
    state = update_root(state, root_that_names(MetadataRole.TIMESTAMP, threshold=1))
    honest = parse_timestamp(uptane.image_release(uptane.target()).timestamp)
    alone = encode(signed_by_it(Metadata(honest.signed)))
    before = state.files()
    error = refused(lambda: update_timestamp(state, alone, uptane.NOW))
    assert "timestamp" in error.subject
    assert state.files() == before
    assert load(Repository.IMAGE, {**before, MetadataRole.TIMESTAMP: alone}).timestamp is None
    beside = encode(signed_by_it(honest))
    assert update_timestamp(state, beside, uptane.NOW).timestamp is not None  # by its own key
    two = uptane.start(uptane.IMAGE_OWNER)
    two = update_root(two, root_that_names(MetadataRole.TIMESTAMP, threshold=2))
    refused(lambda: update_timestamp(two, beside, uptane.NOW))


def test_a_certificate_request() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "PACK-1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(PRIVATE, hashes.SHA256())
    refused(lambda: csr_key(request.public_bytes(serialization.Encoding.PEM)))


# --- trust where it is handed on ---


def test_new_root_metadata_and_factory_data() -> None:
    roles = {**uptane.IMAGE_OWNER.role_keys(), MetadataRole.TARGETS: RoleKeys((PUBLIC,))}
    refused(lambda: make_root(version=2, expires=uptane.LATER, roles=roles))
    honest = uptane.holder("firmware").public_key
    for keys in ({"firmware_keys": (honest, PUBLIC)}, *({name: (PUBLIC,)} for name in OPTIONAL_KEYS)):
        factory = Factory(b"", b"", b"", b"", (honest,), (), ())
        refused(lambda keys=keys, factory=factory: encode_factory(replace(factory, **keys)))  # type: ignore[misc]


def test_the_key_register() -> None:
    house, new = House.make(), entry(THIEF, name="demo")
    at = house.first.register.issued + DAY
    refused(lambda: register.first([new, entry(house.firmware)], 1, at))
    refused(lambda: register.added(house.first, [new], at))
    refused(lambda: register.rotated(house.first, house.firmware.public_key.fingerprint, new, at, at))
    root = replace(new, purpose=Role.ROOT)
    roots = [*house.first.register.roots(), root]
    refused(lambda: register.with_root(house.first, roots, 2, [], at))


def test_a_register_that_has_it_already() -> None:
    """It came in before the list knew it: nothing is signed with it, and it can still be revoked."""
    house = House.make()
    old = house.first.register
    entries = in_order([*old.entries, entry(THIEF, name="demo")])
    document = ceremony.sign(Register(1, "", old.issued, Root(2, old.root.keys), entries), *house.holders[:2])
    held = register.verify_chain([document.data])
    at = held.issued + DAY
    production = KeyStage.PRODUCTION
    refused(lambda: held.check_use(PUBLIC, Role.FIRMWARE, production, at))
    refused(lambda: held.check_signature(PUBLIC, Role.FIRMWARE, production, at, at))
    assert [each.key for each in held.signing(Role.FIRMWARE, production, at)] == [house.firmware.public_key]
    revoked = register.revoked(document, PUBLIC.fingerprint, "published", at, at)
    assert revoked.key(PUBLIC.fingerprint).status.state is State.REVOKED


def test_the_fuses_of_a_module() -> None:
    """The other slot's key is good and signed the images; the ROM itself knows no list."""
    module, images = FakeModule(), dict(release("1.3.0", 6))
    before = bytes(module.fuses), [bytes(bank) for bank in module.banks]
    order = Order(BMS_M33, (KEY.public.key_hash, PUBLIC.key_hash), images)
    refused(lambda: provision(module, order, bytes))
    assert (bytes(module.fuses), [bytes(bank) for bank in module.banks]) == before


def test_a_content_key_is_not_wrapped_for_it() -> None:
    store = MemoryStore()
    store.write("ab" * 32, bytes(16))
    refused(lambda: next(wrap_for_all("ab" * 32, [PUBLIC], store)))


# --- what may be looked at ---


def test_commands_take_no_such_key_and_show_what_it_signed(tmp_path: Path) -> None:
    image, pem, program, digest = (tmp_path / name for name in ("app.img", "demo.pem", "app.hex", "digest"))
    program.write_bytes(hex_file((LINK, bytes(64))))
    image.write_bytes(Draft().seal(FORGER).write())
    pem.write_bytes(PUBLIC.pem())
    shown = CliRunner().invoke(cellward, ["image", "show", str(image), "--json"])
    assert (shown.exit_code, PUBLIC.fingerprint in shown.stdout) == (0, True)
    for command in (
        ["image", "verify", str(image), "--key", str(pem)],
        ["verify", str(image), "--key", f"firmware={pem}"],
        ["image", "sign", str(program), *OPTIONS, "--public-key", str(pem), "--digest-out", str(digest)],
    ):
        error = CliRunner().invoke(cellward, ["--data", str(tmp_path), *command]).exception
        assert isinstance(error, CellwardError), command
        assert (error.code, error.subject) == (Code.KEY_PUBLISHED, str(pem))
    assert everything(tmp_path).keys() == {image, pem, program}
