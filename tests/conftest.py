"""For all property tests: no example is judged by the clock. On CI, Hypothesis repeats the same ones."""

from hypothesis import settings

settings.register_profile("cellward", settings.default, deadline=None)
settings.load_profile("cellward")
