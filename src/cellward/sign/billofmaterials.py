"""The bill of materials of the packaged firmware: CycloneDX 1.6 in JSON, with the hash of each payload."""

import hashlib
import json
import re
from collections.abc import Mapping

from cellward.core.slots import BMS_M33, Stage
from cellward.sign.firmware import read_firmware

SBOM_NAME = "firmware.cdx.json"
_BUILT = re.compile(rf"({'|'.join(Stage)})-(\d+\.\d+\.\d+)\.(?:elf|hex|srec|bin)")
# firmware/fetch_bearssl.py has the hash of its source.
_LIBRARY = {
    "type": "library",
    "name": "BearSSL",
    "version": "0.6",
    "licenses": [{"license": {"id": "MIT"}}],
    "purl": "pkg:deb/debian/bearssl@0.6%2Bdfsg.1",
}


def firmware_sbom(files: Mapping[str, bytes]) -> bytes:
    """Of loaders and apps by their names, as a build leaves them. What is no such file is passed over.

    Raises FormatRefused (firmware.*) for one that cannot be read.
    """
    payloads: dict[tuple[str, str], set[str]] = {}
    for name, data in files.items():
        built = _BUILT.fullmatch(name)
        if built:
            stage, version = built.groups()
            payload = read_firmware(name, data, BMS_M33, Stage(stage)).payload
            payloads.setdefault((stage, version), set()).add(hashlib.sha256(payload).hexdigest())
    components = [_component(*image, sorted(digests)) for image, digests in sorted(payloads.items())]
    tree = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    return json.dumps(tree, indent=1).encode() + b"\n"


def _component(stage: str, version: str, digests: list[str]) -> dict[str, object]:
    return {
        "type": "firmware",
        "bom-ref": f"{stage}-{version}",
        "name": f"{BMS_M33.name} {stage}",
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
        "components": [_LIBRARY],
    }
