"""Counters and fixed data in the TPM's non-volatile memory."""

from cellward.adapters.tpm2.connection import Connection
from cellward.adapters.tpm2.vendor import (
    ESAPI,
    ESYS_TR,
    TPM2B_NV_PUBLIC,
    TPMS_NV_PUBLIC,
)
from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.tpm.command import authorised
from cellward.core.tpm.numbers import Command, NvAttributes
from cellward.core.tpm.policy import COUNTER_SIZE
from cellward.core.tpm.public import NvPublic
from cellward.ports.tpm import MAX_FIXED, counter_area, fixed_area, of_size

_CHUNK = 512
_NONE = NvAttributes(0)
_STATES = NvAttributes.WRITTEN | NvAttributes.WRITELOCKED


class Indices(Connection):
    """What every kind of index has in common."""

    def held(self, esys: ESAPI, area: NvPublic) -> NvAttributes:
        """What has happened to the index. Raises Refused (tpm.exists) where it is not of this kind."""
        public, _ = esys.nv_read_public(self.persistent(esys, area.index))
        attributes = NvAttributes(int(public.nvPublic.attributes) & ~0xF0)
        found = public.nvPublic
        found.attributes = int(found.attributes) | _STATES
        if found.marshal() != definition(area, _STATES).nvPublic.marshal():
            raise _taken(area, "another kind of index")
        return attributes


class Counters(Indices):
    """ports.tpm.TpmCounters."""

    def define_counter(self, index: int) -> int:
        area = counter_area(index)
        with self.command(subject_of(area)) as esys:
            if not self.exists(esys, index):
                esys.nv_define_space(None, definition(area), ESYS_TR.OWNER)
            held = self.held(esys, area)
            if not held & NvAttributes.WRITTEN:
                esys.nv_increment(self.persistent(esys, index))
            return self._count(esys, index)

    def counter(self, index: int) -> int:
        with self.command(subject_of(counter_area(index))) as esys:
            return self._count(esys, index)

    def increment(self, index: int) -> None:
        with self.command(subject_of(counter_area(index))):
            self.exchange(authorised(Command.NV_INCREMENT, [index, index], b""))

    def remove_counter(self, index: int) -> None:
        with self.command(subject_of(counter_area(index))) as esys:
            if self.exists(esys, index):
                esys.nv_undefine_space(self._kept.pop(index), ESYS_TR.OWNER)

    def fix(self, index: int, data: bytes) -> None:
        area = fixed_area(index, len(of_size("fixed data", data, 1, MAX_FIXED)))
        with self.command(subject_of(area)) as esys:
            if not self.exists(esys, index):
                esys.nv_define_space(None, definition(area), ESYS_TR.PLATFORM)
            held, place = self.held(esys, area), self.persistent(esys, index)
            if held & NvAttributes.WRITELOCKED:
                if read_nv(esys, place) != data:
                    raise _taken(area, "other data")
                return
            esys.nv_write(place, data, 0, ESYS_TR.PLATFORM)
            esys.nv_write_lock(place, ESYS_TR.PLATFORM)

    def fixed(self, index: int) -> bytes:
        subject = subject_of(fixed_area(index, 0))
        with self.command(subject) as esys:
            place = self.persistent(esys, index)
            public, _ = esys.nv_read_public(place)
            area = fixed_area(index, public.nvPublic.dataSize)
            if public.nvPublic.marshal() != area.encode():
                raise Unavailable(Code.TPM_MISSING, subject, expected="data that is fixed", found="others")
            return read_nv(esys, place)

    def _count(self, esys: ESAPI, index: int) -> int:
        return int.from_bytes(bytes(esys.nv_read(self.persistent(esys, index), COUNTER_SIZE)), "big")


def read_nv(esys: ESAPI, place: int) -> bytes:
    public, _ = esys.nv_read_public(place)
    size = public.nvPublic.dataSize
    parts = (esys.nv_read(place, min(_CHUNK, size - at), at) for at in range(0, size, _CHUNK))
    return b"".join(map(bytes, parts))


def definition(area: NvPublic, states: NvAttributes = _NONE) -> TPM2B_NV_PUBLIC:
    """As it is defined: before it was written or locked, or with these `states`."""
    base = NvPublic(area.index, area.type, area.attributes & ~_STATES | states, area.size, area.policy)
    return TPM2B_NV_PUBLIC(nvPublic=TPMS_NV_PUBLIC.unmarshal(base.encode())[0])


def subject_of(area: NvPublic) -> str:
    return f"NV {area.type.name.lower()} {area.index:#010x}"


def _taken(area: NvPublic, found: str) -> Refused:
    return Refused(Code.TPM_EXISTS, subject_of(area), expected="a free index, or the same there", found=found)
