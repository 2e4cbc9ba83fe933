"""Pure core: bytes and values in, values or a refusal out. Time is always a parameter."""
