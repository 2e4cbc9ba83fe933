"""The laboratory: attacks on the real ARM binaries, by the million. An extra; nothing else needs it."""
