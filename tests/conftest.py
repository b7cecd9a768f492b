"""Settings of the whole test suite."""

from hypothesis import settings

# A shared machine is slow at times: examples are bounded by number, not by time.
settings.register_profile("medfocus", deadline=None)
settings.load_profile("medfocus")
