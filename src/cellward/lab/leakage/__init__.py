"""Whether what a secret-dependent routine does can be told from the time and the addresses."""
