"""A battery's power goes without a word to the TPM, again and again: nothing of ours may lock itself away.

The use of an object with dictionary-attack protection, cut off, counts as a failed try; after a few of them a
TPM refuses the right authorisation for hours.
"""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from cellward.adapters.files import DirectoryStore
from cellward.core.errors import CellwardError, Code
from cellward.device.attempts import Attempts
from cellward.device.tamper import Guard
from cellward.device.vault import opened
from cellward.ports.tpm import KeyName
from tests.support.packtpm import SwtpmDevice
from tests.support.vault import FIRST, Pack

CUTS = 100
SECRET = b"what the charger and the pack share"


def use(pack: Pack) -> None:
    """All of the TPM that the controller uses: keys, quotes, vault, counters, chains."""
    tpm, store = pack.device.tpm, DirectoryStore(pack.state, 0o600)
    Attempts(tpm, store).forgive()  # those that were cut off: no wait is to be tried here
    while True:
        tpm.sign(bytes(32))
        tpm.quote(bytes(32), [8])
        with Attempts(tpm, store).charged("test"):
            pass
        Guard(tpm, store).sense()
        with opened(pack.place) as vault:
            vault.put("counted", b"again")


@pytest.mark.slow
def test_a_hundred_cuts_lock_nothing(made_tpm: Path, tmp_path: Path) -> None:
    """swtpm is killed in the middle of its work, at another moment each time, and started again."""
    folder = tmp_path / "tpm"
    shutil.copytree(made_tpm, folder)
    pack = Pack(SwtpmDevice(folder), tmp_path / "state")
    for name in KeyName:
        pack.device.tpm.create_key(name)
    pack.make()
    pack.put("pairing", SECRET)
    Guard(pack.device.tpm, DirectoryStore(pack.state, 0o600)).enrolled("vehicle PACK-1", b"factory data")
    for number in range(CUTS):
        device = pack.device
        assert isinstance(device, SwtpmDevice)
        swtpm = device.running.process.pid
        killer = threading.Timer(0.002 + number % 25 * 0.004, os.kill, (swtpm, signal.SIGKILL))
        killer.start()
        with pytest.raises(CellwardError) as error:
            use(pack)
        assert error.value.code in (Code.TPM_ABSENT, Code.TPM_FAILED)  # the cut, and nothing else
        killer.join()
        device.off()
        device._on()
        device.tpm.pcr_extend(8, FIRST)
        facts = device.tpm.facts()
        assert (facts.failed_tries, facts.locked_out) == (0, False), f"after cut {number + 1}"
    assert pack.read("pairing") == SECRET
    for name in KeyName:
        assert pack.device.tpm.key(name) is not None
    pack.device.tpm.sign(bytes(32))
    assert Guard(pack.device.tpm, DirectoryStore(pack.state, 0o600)).state == "sound"
    pack.device.off()
