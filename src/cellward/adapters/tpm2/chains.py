"""NV indices that are only ever extended."""

from cellward.adapters.tpm2.nvram import Indices, definition, subject_of
from cellward.adapters.tpm2.sealing import Sealing
from cellward.adapters.tpm2.vendor import ESAPI, ESYS_TR, TPMA_SESSION
from cellward.core.tpm.numbers import DIGEST_SIZE, NvAttributes
from cellward.ports.tpm import chain_area, of_digest


class Chains(Indices, Sealing):
    """ports.tpm.TpmChains."""

    def define_chain(self, index: int) -> bytes:
        area = chain_area(index)
        with self.command(subject_of(area)) as esys:
            if not self.exists(esys, index):
                esys.nv_define_space(None, definition(area), ESYS_TR.OWNER)
            if not self.held(esys, area) & NvAttributes.WRITTEN:
                self._extend(esys, index, bytes(DIGEST_SIZE))
            return self._value(esys, index)

    def chain(self, index: int) -> bytes:
        with self.command(subject_of(chain_area(index))) as esys:
            return self._value(esys, index)

    def extend_chain(self, index: int, data: bytes) -> None:
        of_digest("chain's data", data)
        with self.command(subject_of(chain_area(index))) as esys:
            self._extend(esys, index, data)

    def _value(self, esys: ESAPI, index: int) -> bytes:
        return bytes(esys.nv_read(self.persistent(esys, index), DIGEST_SIZE))

    def _extend(self, esys: ESAPI, index: int, data: bytes) -> None:
        place = self.persistent(esys, index)
        bus = self.encrypting(esys, self.storage_root(esys), TPMA_SESSION.DECRYPT)
        esys.nv_extend(place, data, session2=bus)
