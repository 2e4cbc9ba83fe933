"""What Cellward needs from outside, as small Protocols; adapters/ has one file per outside thing."""
