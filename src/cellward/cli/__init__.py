"""The command line: one file per arrow of the data's way."""

import gc

# Start-up makes some 50,000 objects that stay: looking through them for garbage every 700 is a
# twentieth of `image sign`.
gc.set_threshold(50_000)
