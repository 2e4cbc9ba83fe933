"""A TPM 2.0 through tpm2-pytss, and swtpm as the embedded one."""

from cellward.adapters.tpm2.swtpm import EmbeddedTpm
from cellward.adapters.tpm2.tpm import Tpm2

__all__ = ["EmbeddedTpm", "Tpm2"]
