"""Settings of the whole test suite."""

import os

from hypothesis import settings

# As the command line does, before anything imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shared machine is slow at times: examples are bounded by number, not by time.
settings.register_profile("medfocus", deadline=None)
settings.load_profile("medfocus")
