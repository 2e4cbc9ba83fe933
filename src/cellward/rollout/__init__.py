"""Who runs what, and who shall run what."""
