"""Fault injection: every fault of a model at every executed instruction, and what comes of it."""
