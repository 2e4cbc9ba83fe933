"""python-pkcs11, imported without asn1crypto.

Its package imports pkcs11.util, which converts keys to and from DER with asn1crypto: half of the time
that `import pkcs11` takes, and nothing that is used here. These modules are loaded when touched.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


class _LazyHelpers:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("pkcs11.util."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


_finder = _LazyHelpers()
sys.meta_path.insert(0, _finder)
try:
    import pkcs11
    from pkcs11 import Attribute, KeyType, ObjectClass
    from pkcs11 import exceptions as ck
finally:
    sys.meta_path.remove(_finder)

_report = sys.unraisablehook


def _quiet(unraisable: "sys.UnraisableHookArgs") -> None:
    """A search whose session is lost fails once more when it is freed, and Python would print that."""
    if not isinstance(unraisable.exc_value, ck.PKCS11Error):
        _report(unraisable)


sys.unraisablehook = _quiet

__all__ = ["Attribute", "KeyType", "ObjectClass", "ck", "pkcs11"]
