"""What several contracts are held against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellward.ports.tpm import Tpm
from tests.support.packtpm import Device, MemoryDevice, copy


@pytest.fixture(params=["swtpm", "memory"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    """A pack controller's TPM, new and with power."""
    found: Device
    if request.param == "swtpm":
        found = copy(request.getfixturevalue("made_tpm"), tmp_path / "tpm")
    else:
        found = MemoryDevice()
    yield found
    found.off()


@pytest.fixture
def tpm(device: Device) -> Tpm:
    return device.tpm
