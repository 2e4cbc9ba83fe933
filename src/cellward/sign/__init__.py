"""The maker's signing side: key roles, and firmware into signed images."""
