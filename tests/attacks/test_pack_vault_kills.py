"""The pack controller's vault, killed with its swtpm at every step of every operation: 0 lost, 0 stale.

Once here; twenty times at each step by `python -m tests.support.vaultkills`.
"""

from pathlib import Path

import pytest

from tests.support.vaultkills import OPERATIONS, campaign

READING = ("get", "export")


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kills_at_each_step_lose_nothing_and_bring_nothing_back(
    made_tpm: Path, tmp_path: Path, operation: str
) -> None:
    steps = campaign(operation, made_tpm, tmp_path, kills=1)
    kinds = {step.partition(" ")[2] for step in steps}
    assert "acknowledged" in kinds
    if operation in READING:
        assert len(steps) == 1, "reading an open vault changes nothing and asks nobody"
    if operation in ("init", "put", "remove", "rotate", "rotate to a successor"):
        changes = {"before open", "before it has its bytes", "before a sync", "before os.rename"}
        ours = {
            f"{when} TPM command {code}" for code in ("00000136", "00000134") for when in ("before", "in")
        }
        assert kinds >= changes | ours, "its file, NV_Extend and NV_Increment"
