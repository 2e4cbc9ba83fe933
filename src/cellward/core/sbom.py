"""The bill of materials that goes with a release: CycloneDX in JSON (ECMA-424).

It is somebody else's document and grows with the standard: what is read of it are the components' names,
versions and SHA-256 hashes, everything else is left alone.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.strictjson import SHA256_HEX

MAX_SBOM_SIZE = 32 * 1024 * 1024
MAX_COMPONENTS = 100_000


@dataclass(frozen=True)
class Component:
    """`sha256`: in hex, as many as it has."""

    name: str
    version: str
    sha256: frozenset[str]


@dataclass(frozen=True)
class Sbom:
    spec_version: str
    components: tuple[Component, ...]

    def require(self, digests: Collection[str], what: str) -> Component:
        """The component that is this image, by one of its SHA-256 hashes.

        Raises TrustRefused (release.sbom): a list of parts that does not say of what is none.
        """
        for component in self.components:
            if component.sha256 & set(digests):
                return component
        stated = sorted(digest for component in self.components for digest in component.sha256)
        raise TrustRefused(
            Code.RELEASE_SBOM,
            what,
            expected="a component of the SBOM with its SHA-256: "
            + ", ".join(d[:16] for d in sorted(digests)),
            found=", ".join(digest[:16] for digest in stated[:4]) or "no hash",
            advice="let the build write the firmware's hash into the SBOM (hashes of its component)",
        )


def read(data: bytes, what: str = "SBOM") -> Sbom:
    """Raises FormatRefused (release.sbom)."""
    if len(data) > MAX_SBOM_SIZE:
        raise _refused(what, f"at most {MAX_SBOM_SIZE} bytes", f"{len(data)}")
    try:
        tree = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refused(what, "CycloneDX in JSON", "no JSON") from error
    if not isinstance(tree, dict) or tree.get("bomFormat") != "CycloneDX":
        raise _refused(what, "bomFormat CycloneDX", "another document")
    spec = tree.get("specVersion")
    if not isinstance(spec, str) or not spec.startswith("1.") or not spec[2:].isdigit():
        raise _refused(what, "specVersion 1.x", repr(spec)[:40])
    metadata = tree.get("metadata")
    roots = [metadata.get("component")] if isinstance(metadata, dict) else []
    components = tree.get("components", [])
    if not isinstance(components, list):
        raise _refused(what, "a list of components", type(components).__name__)
    return Sbom(spec, tuple(_components([*roots, *components], what)))


def _components(items: list[object], what: str) -> Iterator[Component]:
    """Each, and those inside it; without recursion, so that depth costs nothing."""
    count = 0
    while items:
        item = items.pop()
        count += 1
        if not isinstance(item, dict) or count > MAX_COMPONENTS:
            if item is None:
                continue
            raise _refused(what, f"at most {MAX_COMPONENTS} components, all of them objects", "others")
        inner = item.get("components", [])
        items += inner if isinstance(inner, list) else []
        yield Component(_text(item, "name"), _text(item, "version"), frozenset(_hashes(item)))


def _hashes(item: dict[str, object]) -> Iterator[str]:
    hashes = item.get("hashes", [])
    for each in hashes if isinstance(hashes, list) else ():
        if isinstance(each, dict) and each.get("alg") == "SHA-256":
            content = each.get("content")
            if isinstance(content, str) and SHA256_HEX.fullmatch(content.lower()):
                yield content.lower()


def _text(item: dict[str, object], name: str) -> str:
    value = item.get(name, "")
    return value[:200] if isinstance(value, str) else ""


def _refused(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.RELEASE_SBOM, what, expected=expected, found=found)
