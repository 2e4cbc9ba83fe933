"""The checkout that evidence is about, and the tools of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import read_file

if TYPE_CHECKING:
    from cellward.ports.checkout import Checkout


def checkout(root: Path) -> "Checkout":
    """The project's own files around the test plan."""
    from cellward.adapters.checkout import WorkingTree

    return WorkingTree(root, read_file)


def tools() -> dict[str, str]:
    """Name and version of what builds and tests the project here."""
    from cellward.adapters.checkout import tools as installed

    return installed()
