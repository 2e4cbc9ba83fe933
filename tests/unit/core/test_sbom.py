"""SBOMs: of CycloneDX what matters is read, whatever else is in it."""

import json
from typing import Any

import pytest

from cellward.core import sbom
from cellward.core.errors import Code, FormatRefused, TrustRefused
from tests.support.hsm import code_of

DIGEST = "ab" * 32
HASHES = [{"alg": "MD5", "content": "00"}, {"alg": "SHA-256", "content": DIGEST.upper()}]
COMPONENT = {"type": "firmware", "name": "app", "version": "1.4.0", "hashes": HASHES}
DOCUMENT: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [COMPONENT]}


def read(**changed: object) -> sbom.Sbom:
    return sbom.read(json.dumps({**DOCUMENT, **changed}).encode())


def test_a_component_by_its_hash() -> None:
    found = read(vulnerabilities=[], serialNumber="urn:uuid:1", newer={"field": 1.5})
    component = found.require([DIGEST, "cd" * 32], "app.img")
    assert (component.name, component.version, found.spec_version) == ("app", "1.4.0", "1.6")


@pytest.mark.parametrize(
    "place",
    [
        {"components": [], "metadata": {"component": COMPONENT}},
        {"components": [{"name": "pack", "components": [{"name": "bms", "components": [COMPONENT]}]}]},
    ],
    ids=["what it is of", "inside another"],
)
def test_where_a_component_may_stand(place: dict[str, Any]) -> None:
    assert read(**place).require([DIGEST], "app.img").name == "app"


@pytest.mark.parametrize(
    "components",
    [
        [],
        [{"name": "app"}],
        [{"name": "app", "hashes": "all"}],
        [{"name": "app", "hashes": [{"alg": "SHA-512", "content": DIGEST}]}],
        [{"name": "app", "hashes": [{"alg": "SHA-256", "content": "cd" * 32}]}],
        [{"name": "app", "hashes": [{"alg": "SHA-256", "content": DIGEST + "00"}]}],
        [{"name": "app", "hashes": [{"alg": "SHA-256", "content": 7}, 8]}],
        [{"name": DIGEST, "version": DIGEST, "components": DIGEST}],
    ],
)
def test_a_list_that_does_not_say_of_what(components: list[object]) -> None:
    with pytest.raises(TrustRefused) as error:
        read(components=components).require([DIGEST], "app.img")
    assert code_of(error) is Code.RELEASE_SBOM
    assert error.value.subject == "app.img"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b"9" * 5_000,
        b"<bom/>",
        json.dumps({**DOCUMENT, "bomFormat": "SPDX"}).encode(),
        json.dumps({**DOCUMENT, "specVersion": "2.0"}).encode(),
        json.dumps({**DOCUMENT, "specVersion": 1.6}).encode(),
        json.dumps({**DOCUMENT, "specVersion": "1.x"}).encode(),
        json.dumps({**DOCUMENT, "components": {}}).encode(),
        json.dumps({**DOCUMENT, "components": [7]}).encode(),
    ],
)
def test_no_sbom(data: bytes) -> None:
    with pytest.raises(FormatRefused) as error:
        sbom.read(data)
    assert code_of(error) is Code.RELEASE_SBOM
    assert "\n" not in str(error.value)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps({**DOCUMENT, "components": [COMPONENT] * 3}).encode()
    monkeypatch.setattr(sbom, "MAX_COMPONENTS", 3)
    assert len(sbom.read(data).components) == 3
    monkeypatch.setattr(sbom, "MAX_COMPONENTS", 2)
    with pytest.raises(FormatRefused):
        sbom.read(data)
    monkeypatch.setattr(sbom, "MAX_COMPONENTS", 3)
    monkeypatch.setattr(sbom, "MAX_SBOM_SIZE", len(data) - 1)
    with pytest.raises(FormatRefused):
        sbom.read(data)


def test_depth_costs_nothing() -> None:
    inner: dict[str, Any] = COMPONENT
    for _ in range(300):
        inner = {"name": "around", "components": [inner]}
    assert read(components=[inner]).require([DIGEST], "app.img").name == "app"
