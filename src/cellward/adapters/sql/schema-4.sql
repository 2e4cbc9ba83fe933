-- Which statement on server CAs a vehicle asked for last: with older ones it would not know the server again.
ALTER TABLE vehicle ADD COLUMN server_cas INTEGER NOT NULL DEFAULT 0;
