-- Schema 1 of the registry (adapters/sql.py). Times are seconds since 1970 in UTC.
CREATE TABLE vehicle (
  vehicle_id TEXT PRIMARY KEY, enrolled INTEGER NOT NULL, revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE ecu (
  ecu_id TEXT PRIMARY KEY,
  vehicle_id TEXT NOT NULL REFERENCES vehicle,
  hardware_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ecu_of_vehicle ON ecu (vehicle_id);
CREATE TABLE certificate (
  number INTEGER PRIMARY KEY,
  serial TEXT NOT NULL UNIQUE,
  vehicle_id TEXT NOT NULL REFERENCES vehicle,
  public_key BLOB NOT NULL,
  not_after INTEGER NOT NULL,
  revoked INTEGER NOT NULL DEFAULT 0,
  counter INTEGER NOT NULL DEFAULT -1
) STRICT;
CREATE INDEX certificate_of_vehicle ON certificate (vehicle_id);
CREATE TABLE token (
  digest BLOB PRIMARY KEY,
  vehicle_id TEXT NOT NULL,
  expires INTEGER NOT NULL,
  used INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE assignment (
  ecu_id TEXT PRIMARY KEY REFERENCES ecu ON DELETE CASCADE,
  vehicle_id TEXT NOT NULL REFERENCES vehicle,
  target TEXT NOT NULL,
  length INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  hardware_ids TEXT NOT NULL,
  stage TEXT NOT NULL,
  version TEXT NOT NULL,
  release_counter INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX assignment_of_vehicle ON assignment (vehicle_id);
CREATE TABLE last_report (
  vehicle_id TEXT PRIMARY KEY REFERENCES vehicle,
  counter INTEGER NOT NULL,
  received INTEGER NOT NULL,
  content BLOB NOT NULL,
  body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE history (
  number INTEGER PRIMARY KEY,
  vehicle_id TEXT NOT NULL REFERENCES vehicle,
  counter INTEGER NOT NULL,
  received INTEGER NOT NULL,
  content BLOB NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE INDEX history_of_vehicle ON history (vehicle_id);
CREATE TRIGGER history_stays BEFORE UPDATE ON history
  BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER history_remains BEFORE DELETE ON history
  BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TABLE issue (
  vehicle_id TEXT NOT NULL REFERENCES vehicle,
  version INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  signed_by TEXT NOT NULL,
  renew_after INTEGER NOT NULL,
  targets BLOB NOT NULL,
  snapshot BLOB NOT NULL,
  timestamp BLOB NOT NULL,
  PRIMARY KEY (vehicle_id, version)
) STRICT;
