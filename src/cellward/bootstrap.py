"""Composition root: the one place that knows which adapter stands behind which port."""

from cellward.adapters.files import DirectoryStore, read_file, write_file

__all__ = ["DirectoryStore", "read_file", "write_file"]
