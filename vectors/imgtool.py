"""imgtool, MCUboot's own signing tool, as a reference: run as it is, in this process."""

import tempfile
from pathlib import Path

from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from vectors.forge import AnyKey


class ImgtoolError(Exception):
    """imgtool said no."""


def run(*arguments: str) -> str:
    from imgtool.main import imgtool

    result = CliRunner().invoke(imgtool, list(arguments))
    if result.exit_code:
        raise ImgtoolError(result.output)
    return str(result.output)


def write_key(folder: Path, key: AnyKey) -> str:
    """A PEM with the private key, for imgtool alone; `folder` is a temporary one."""
    path = folder / "key.pem"
    path.write_bytes(
        key.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(path)


def write_public_key(
    folder: Path, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
) -> str:
    path = folder / "public.pem"
    path.write_bytes(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(path)


def sign(
    key: AnyKey | None, payload: bytes, *options: str, header_size: int = 0x200, suffix: str = "bin"
) -> bytes:
    """The image that `imgtool sign` makes of `payload`, in the format of the suffix."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.bin").write_bytes(payload)
        keys = ["--key", write_key(folder, key)] if key else []
        run(
            *("sign", *keys, "--header-size", f"{header_size:#x}", "--pad-header", "--slot-size", "0x100000"),
            *(*options, str(folder / "in.bin"), str(folder / f"out.{suffix}")),
        )
        return (folder / f"out.{suffix}").read_bytes()


def verify(key: AnyKey, image: bytes) -> str:
    """What `imgtool verify` prints about a good image; it raises for a bad one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image.bin").write_bytes(image)
        public = write_public_key(folder, key.private.public_key())
        return run("verify", "--key", public, str(folder / "image.bin"))
