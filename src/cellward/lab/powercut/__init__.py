"""Power cuts at every flash and fuse operation of a module's life, and a boot after each."""
