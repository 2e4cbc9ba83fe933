-- Attested vehicles. Names of vehicles are no references in `session`: it is opened before there is one.
ALTER TABLE certificate ADD COLUMN recovery INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token ADD COLUMN software INTEGER NOT NULL DEFAULT 0;
CREATE TABLE attestation (
  vehicle_id TEXT PRIMARY KEY REFERENCES vehicle,
  endorsement BLOB NOT NULL UNIQUE,
  attestation_key BLOB NOT NULL UNIQUE,
  identity_key BLOB NOT NULL UNIQUE,
  configuration BLOB NOT NULL,
  moment BLOB NOT NULL,
  noted_code TEXT,
  noted_found TEXT,
  noted_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE session (
  number INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE,
  vehicle_id TEXT NOT NULL,
  nonce BLOB NOT NULL,
  expires INTEGER NOT NULL,
  context BLOB NOT NULL
) STRICT;
CREATE INDEX session_of_vehicle ON session (vehicle_id);
