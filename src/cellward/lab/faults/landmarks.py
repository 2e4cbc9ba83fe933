"""Functions of ROM and loader that the campaign knows by name."""

# Functions that judge, order or open; what they call hashes, compares and copies for them.
DECIDING = frozenset(
    (
        *("main", "qualify", "verify", "commit", "start_trial", "launch", "refused_bank", "verify_active"),
        *("image_measure", "image_check", "pass_step", "unlock_add", "entry_check", "jump", "unlock"),
        *("verify_digest", "verify_key", "verify_signature", "verify_counter", "verify_hardware"),
        *("p256_verify", "p256_verify_raw", "rsa3072_pss_verify", "algorithm_of"),
    )
)
# Functions that many ways lead through, and before which little is left of where a run came from.
MARKS = (
    "jump",
    "verify_active",
    "image_decode",
    "vault_commit",
    "hkdf_expand",
    "bank_state",
    "event",
    "milestone",
)
