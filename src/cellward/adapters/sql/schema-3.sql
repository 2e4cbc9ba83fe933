-- A token may name the one TPM that it introduces, by the SHA-256 of its endorsement certificate.
ALTER TABLE token ADD COLUMN endorsement BLOB NOT NULL DEFAULT x'';
