"""A TPM 2.0 behind ports.tpm.Tpm."""

from typing import Any

from cellward.adapters.tpm2.chains import Chains
from cellward.adapters.tpm2.connection import Connection
from cellward.adapters.tpm2.keys import Keys
from cellward.adapters.tpm2.measurements import Measurements
from cellward.adapters.tpm2.nvram import Counters
from cellward.adapters.tpm2.sealing import Sealing
from cellward.adapters.tpm2.vendor import ESAPI, ESYS_TR, TPM2_CAP, TPM2_PT, TPM2_SU
from cellward.ports.tpm import MAX_AUTHORISATION, Clock, TpmFacts, of_size

_FIXED = 0x100
_VARIABLE = 0x200
_VENDOR_STRING = 0x106  # four of them
_FIRMWARE = 0x10B  # two
_LOCKED_OUT = 1 << 9  # TPMA_PERMANENT.inLockout
_RANDOM_AT_ONCE = 32


class Tpm2(Keys, Measurements, Counters, Chains, Sealing, Connection):
    """ports.tpm.Tpm, as a context manager."""

    def facts(self) -> TpmFacts:
        with self.command("TPM") as esys:
            fixed, variable = _properties(esys, _FIXED), _properties(esys, _VARIABLE)
        model = b"".join(fixed.get(_VENDOR_STRING + n, 0).to_bytes(4, "big") for n in range(4))
        return TpmFacts(
            _text(fixed[TPM2_PT.MANUFACTURER].to_bytes(4, "big")),
            _text(model),
            fixed[_FIRMWARE] << 32 | fixed[_FIRMWARE + 1],
            variable[TPM2_PT.LOCKOUT_COUNTER],
            bool(variable[TPM2_PT.PERMANENT] & _LOCKED_OUT),
        )

    def random(self, count: int) -> bytes:
        found = b""
        with self.command("random number generator") as esys:
            while len(found) < count:
                found += bytes(esys.get_random(min(_RANDOM_AT_ONCE, count - len(found))))
        return found

    def clock(self) -> Clock:
        with self.command("clock") as esys:
            read = esys.read_clock()
        info = read.clockInfo
        starts = int(info.resetCount), int(info.restartCount)
        return Clock(int(info.clock), *starts, bool(info.safe), int(read.time))

    def set_lockout_auth(self, new: bytes, current: bytes = b"") -> None:
        for each in (new, current):
            of_size("lockout authorisation", each, 0, MAX_AUTHORISATION)
        with self.command("lockout authorisation") as esys:
            esys.tr_set_auth(ESYS_TR.LOCKOUT, current)
            esys.hierarchy_change_auth(ESYS_TR.LOCKOUT, new)

    def clear(self, lockout_auth: bytes = b"") -> None:
        of_size("lockout authorisation", lockout_auth, 0, MAX_AUTHORISATION)
        with self.command("owner hierarchy") as esys:
            esys.tr_set_auth(ESYS_TR.LOCKOUT, lockout_auth)
            esys.clear(ESYS_TR.LOCKOUT)
            self.forget()

    def shutdown(self) -> None:
        with self.command("TPM") as esys:
            esys.shutdown(TPM2_SU.CLEAR)


def _properties(esys: ESAPI, first: int) -> dict[int, int]:
    _, found = esys.get_capability(TPM2_CAP.TPM_PROPERTIES, first, 64)
    listed: Any = found.data.tpmProperties
    return {int(each.property): int(each.value) for each in listed}


def _text(data: bytes) -> str:
    return data.rstrip(b"\0 ").decode("ascii", "replace")
