"""Signers of other schemes, by the entry points of installed packages (docs/signers.md).

Group `cellward.signers`; name: the scheme; value: a function of the URI and the data directory that returns
a Signer. What it signs is verified before anybody has it.
"""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NoReturn

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.ports.signer import Signer

GROUP = "cellward.signers"
# What foreign code raises when it cannot be loaded or asked. Anything else is its bug, and shown as one.
_FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class PluginSigner:
    """A foreign Signer behind checks of its own."""

    def __init__(self, uri: str, foreign: Signer, package: str) -> None:
        self._foreign = foreign
        self._package = package
        self.uri = uri
        key = foreign.public_key
        if not isinstance(key, PublicKey):
            raise Unavailable(
                Code.SIGNER_FAILED,
                f"signer of {package}",
                expected="a cellward.core.keys.PublicKey",
                found=type(key).__name__,
            )
        self.public_key = key.unpublished(f"signer of {package}")

    def sign(self, data: bytes) -> bytes:
        """Raises TrustRefused (signer.failed) where the signature is not this key's; Unavailable."""
        try:
            signature = self._foreign.sign(data)
        except _FOREIGN as error:
            _failed(self._package, error)
        if not isinstance(signature, bytes):
            raise TrustRefused(
                Code.SIGNER_FAILED,
                f"signer of {self._package}",
                expected="a signature",
                found=type(signature).__name__,
            )
        self.public_key.verify(data, signature, code=Code.SIGNER_FAILED, subject=f"signer of {self._package}")
        return signature


def plugin_signer(uri: str, home: Path, known: tuple[str, ...]) -> PluginSigner:
    """The signer of this URI's scheme. `known`: the schemes that need no package.

    Raises FormatRefused (signer.scheme) for a scheme that nobody has installed, Refused (signer.scheme) for
    one that two packages claim, Unavailable (signer.failed), and what the signer itself refuses.
    """
    scheme = uri.partition(":")[0].lower()
    found = list(entry_points(group=GROUP, name=scheme))
    if not found:
        schemes = sorted({*known, *entry_points(group=GROUP).names})
        raise FormatRefused(
            Code.SIGNER_SCHEME,
            "key URI",
            expected=" or ".join(f"{each}:" for each in schemes),
            found=f"{scheme[:32]!r}",
            advice=f"install the package that offers it (entry point group {GROUP})",
        )
    if len(found) > 1:
        raise Refused(
            Code.SIGNER_SCHEME,
            f"scheme {scheme}",
            expected="one package that offers it",
            found=", ".join(sorted(map(_package, found))),
            advice="remove the others",
        )
    package = _package(found[0])
    try:
        foreign = found[0].load()(uri, home)
        return PluginSigner(uri, foreign, package)
    except _FOREIGN as error:
        _failed(package, error)


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _failed(package: str, error: Exception) -> NoReturn:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    raise Unavailable(Code.SIGNER_FAILED, f"signer of {package}", found=said[:200]) from error
