"""What a TPM 2.0 says, read and verified without one. Normative: docs/formats/attestation.md.

numbers      the TCG's names and numbers
public       TPMT_PUBLIC, NV public areas, Names
keys         which public areas are an endorsement, an attestation and an identity key
certificate  the endorsement key's certificate, up to a configured manufacturer
credential   a secret that only the TPM with that key and that object can read (TPM2_MakeCredential)
pcr          PCR values, selections and composites
quote        TPMS_ATTEST of a quote, and its verification
approval     the terms on which a sealed value opens, as the maker approves them
policy       policy digests as a trial session computes them
measurement  what a pack controller measures, where, and under which name
eventlog     what was extended into the PCRs, and the values that follow from it

Section numbers are of the TCG's TPM 2.0 Library, revision 1.59.
"""
