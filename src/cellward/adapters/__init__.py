"""One file per outside thing. Each wraps that thing's exceptions at its own edge."""
