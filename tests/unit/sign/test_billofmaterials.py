"""The packaged firmware's bill of materials names what was built, and what is linked into it."""

import hashlib
import json

from cellward.core.sbom import read
from cellward.sign.billofmaterials import firmware_sbom
from cellward.vbms.packaged import packaged, packaged_names


def test_every_image_is_in_it_by_the_hash_of_its_payload() -> None:
    names = ("loader-1.4.0.elf", "app-1.4.0.elf", "app-1.3.0.hex", "rom.bin")
    found = read(firmware_sbom({name: packaged(name) for name in names}))
    firmware = {(c.name, c.version): c.sha256 for c in found.components if c.sha256}
    assert set(firmware) == {("bms-m33 app", "1.3.0"), ("bms-m33 app", "1.4.0"), ("bms-m33 loader", "1.4.0")}
    for stage in ("loader", "app"):  # the build's own binary of what its ELF holds
        plain = hashlib.sha256(packaged(f"{stage}-1.4.0.bin")).hexdigest()
        assert firmware[f"bms-m33 {stage}", "1.4.0"] == {plain}


def test_formats_that_fill_gaps_differently_are_one_component() -> None:
    tree = json.loads(firmware_sbom({name: packaged(name) for name in packaged_names()}))
    names = [(each["name"], each["version"]) for each in tree["components"]]
    assert len(names) == len(set(names))
    assert all(each["components"][0]["name"] == "BearSSL" for each in tree["components"])
