"""Settings of all tests."""

from hypothesis import settings

# No deadline: the first call of a compiled loop compiles it, and machines are shared.
settings.register_profile("pagewarden", deadline=None)
settings.load_profile("pagewarden")
