"""The command line: one file per arrow of the data's way."""
