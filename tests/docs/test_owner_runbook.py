"""The owner's runbook, run as it stands: real programs, OpenSSL, swtpm and SoftHSM. No module is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.device.attested import tpm_signer
from tests.support import owned
from tests.support.uptane import VEHICLE

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbooks" / "owner.md"


def test_the_owner_reads_and_the_buyer_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = owned.make(tmp_path / "desk")
    with bootstrap.tpm(desk / "state") as tpm:
        key = tpm_signer(tpm).public_key
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "cellward"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cellward.cli.main "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELLWARD_")}
    environment = {
        **kept,
        "PATH": f"{program.parent}:{kept['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "CELLWARD_DATA": str(desk / "maker"),
    }
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    script = "".join(blocks).replace("VEHICLE", VEHICLE).replace("FINGERPRINT", key.fingerprint)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().endswith("Verified OK")
    assert f"{key.fingerprint}  pack.der" in result.stdout
    assert (desk / "pack.pem").read_bytes() == key.pem()
    record = json.loads((desk / "payload.json").read_bytes())
    (module,) = record["modules"]
    assert module["measured"] is None
    assert module["silent"]
