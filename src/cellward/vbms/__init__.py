"""The virtual battery module: flash, fuses, cells and contactors around real ARM code."""
