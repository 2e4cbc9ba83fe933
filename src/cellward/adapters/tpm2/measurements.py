"""PCRs of the SHA-256 bank, and quotes of them."""

from collections.abc import Sequence

from cellward.adapters.tpm2.connection import Connection
from cellward.adapters.tpm2.keys import PLACES
from cellward.adapters.tpm2.vendor import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPML_PCR_SELECTION, TPMT_HA
from cellward.core.tpm.pcr import PcrValues, encode_selection
from cellward.ports.tpm import MAX_NONCE, KeyName, TpmQuote, of_digest, of_size, pcrs

_AT_ONCE = 8  # digests in one answer


class Measurements(Connection):
    """ports.tpm.TpmMeasurements."""

    def pcr_extend(self, index: int, digest: bytes) -> None:
        pcrs([index])
        of_digest("digest", digest)
        values = TPML_DIGEST_VALUES([TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest={"sha256": digest})])
        with self.command(f"PCR {index}") as esys:
            esys.pcr_extend(ESYS_TR(index), values)  # a PCR's handle is its index

    def pcr_read(self, selection: Sequence[int]) -> PcrValues:
        wanted = pcrs(selection)
        found: dict[int, bytes] = {}
        with self.command("PCRs") as esys:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                *_, digests = esys.pcr_read(selected(some))
                found.update(zip(some, map(bytes, digests), strict=True))
        return PcrValues(found)

    def quote(self, nonce: bytes, selection: Sequence[int]) -> TpmQuote:
        of_size("nonce", nonce, 1, MAX_NONCE)
        with self.command("attestation key") as esys:
            key = self.persistent(esys, PLACES[KeyName.ATTESTATION])
            attest, signature = esys.quote(key, selected(selection), nonce)
            return TpmQuote(bytes(attest), bytes(signature.marshal()))


def selected(selection: Sequence[int]) -> TPML_PCR_SELECTION:
    return TPML_PCR_SELECTION.unmarshal(encode_selection(pcrs(selection)))[0]
