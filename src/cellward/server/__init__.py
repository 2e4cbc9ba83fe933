"""What vehicles talk to: two TLS listeners in one process."""
