"""Which library a URI means: module-path, module-name, or both (RFC 7512, 2.4)."""

from pathlib import Path

from cellward.core.errors import Code, Unavailable
from cellward.ports.token_uri import TokenUri

ROOTS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
_FOLDERS = ("pkcs11", "softhsm", "*-linux-*/pkcs11", "*-linux-*/softhsm")


def module_path(uri: TokenUri) -> str | None:
    """Of the PKCS#11 library; None where the URI leaves it open.

    A module-path that is a folder is where module-name is looked for; one that is a file decides alone.
    Raises Unavailable (token.absent).
    """
    path = None if uri.module_path is None else Path(uri.module_path)
    if uri.module_name is None:
        return uri.module_path
    if path is not None and not path.is_dir():
        return uri.module_path
    names = [f"lib{uri.module_name}.so", f"{uri.module_name}.so"]
    folders = [(path, "")] if path else [(Path(root), f"{each}/") for root in ROOTS for each in _FOLDERS]
    for folder, below in folders:
        for name in names:
            found = next(iter(sorted(folder.glob(f"{below}{name}"))), None)
            if found is not None:
                return str(found)
    raise Unavailable(
        Code.TOKEN_ABSENT,
        f"PKCS#11 module {uri.module_name}",
        expected=" or ".join(names),
        found="none in " + ", ".join([str(path)] if path else ROOTS),
        advice="install the token's software, or say where it is with module-path=…",
    )
