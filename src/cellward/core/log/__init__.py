"""The signing log: what was given to a key, in a Merkle tree that only grows (docs/formats/signing-log.md).

::

    entry       what is written before a signature is released
    journal     the newest entries on disk, and what a cut leaves of them
    merkle      RFC 6962: hashes, proofs, their verification
    tiles       C2SP tlog-tiles: the tree as files, and proofs from them
    note        C2SP signed-note, Ed25519
    checkpoint  C2SP tlog-checkpoint: the tree's head, signed
    proof       C2SP tlog-proof: an entry, its path and its checkpoint in one file
    audit       everything recomputed

Nothing is imported here: `image sign` needs `entry` and `journal` alone, and pays for no more.
"""
