"""A checkout of this project: its files, its revision, and the tools that built and tested it."""

import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("pytest", "hypothesis", "cryptography", "python-pkcs11", "tuf", "unicorn", "imgtool")
PROGRAMS = (
    ("arm-none-eabi-gcc", "-dumpfullversion"),
    ("softhsm2-util", "--version"),
    ("qemu-system-arm", "--version"),
)
PATIENCE = 10.0


class WorkingTree:
    """A Checkout that is a folder, with git where there is one."""

    def __init__(self, root: Path, read_file: Callable[[Path, int], bytes]) -> None:
        self.root = root
        self._read_file = read_file

    def read(self, name: str, limit: int) -> bytes:
        """Raises Unavailable (storage.missing, storage.failed), Refused (request.too_large)."""
        return self._read_file(self.root / name, limit)

    def has(self, name: str) -> bool:
        return (self.root / name).exists()

    def revision(self) -> str:
        """The commit that is checked out; empty without git or outside of a repository's top."""
        if not (self.root / ".git").exists():
            return ""  # an export inside of somebody else's repository is not of that one's revision
        return _said(["git", "-C", str(self.root), "rev-parse", "--verify", "HEAD"])

    def is_changed(self) -> bool:
        """Whether files differ from the commit."""
        return bool(_said(["git", "-C", str(self.root), "status", "--porcelain", "--untracked-files=no"]))


def tools() -> dict[str, str]:
    """Name and version of each that is installed here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for program, option in PROGRAMS:
        said = _said([program, option])
        if said:
            found[program] = said.splitlines()[0][:80]
    return found


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()
