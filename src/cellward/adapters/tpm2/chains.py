"""NV indices that are only ever extended."""

from cellward.adapters.tpm2.nvram import Indices, definition, subject_of
from cellward.adapters.tpm2.sessions import Sessions
from cellward.adapters.tpm2.vendor import ESAPI, ESYS_TR
from cellward.core.tpm.command import Call, Entity, Hides
from cellward.core.tpm.numbers import DIGEST_SIZE, Command, NvAttributes
from cellward.ports.tpm import chain_area, of_digest


class Chains(Indices, Sessions):
    """ports.tpm.TpmChains."""

    def define_chain(self, index: int) -> bytes:
        area = chain_area(index)
        with self.command(subject_of(area)) as esys:
            if not self.exists(esys, index):
                esys.nv_define_space(None, definition(area), ESYS_TR.OWNER)
            if not self.held(esys, area) & NvAttributes.WRITTEN:
                esys.nv_extend(self.persistent(esys, index), bytes(DIGEST_SIZE))
            return self._value(esys, index)

    def chain(self, index: int) -> bytes:
        with self.command(subject_of(chain_area(index))) as esys:
            return self._value(esys, index)

    def extend_chain(self, index: int, data: bytes) -> None:
        of_digest("chain's data", data)
        area = chain_area(index)
        with self.command(subject_of(area)) as esys:
            place = Entity(index, area.name)
            call = Call(Command.NV_EXTEND, (place, place), Hides.ARGUMENT, argument=bytearray(data))
            self.within(self.salted(esys), call)

    def _value(self, esys: ESAPI, index: int) -> bytes:
        return bytes(esys.nv_read(self.persistent(esys, index), DIGEST_SIZE))
