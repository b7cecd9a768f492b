"""Settings of the whole test suite."""

import os

import pytest
from hypothesis import settings

# As the command line does, before anything imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shared machine is slow at times: examples are bounded by number, not by time.
settings.register_profile("medfocus", deadline=None)
settings.load_profile("medfocus")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=2, help="How often a Ray worker is killed in its test."
    )
    parser.addoption(
        "--ray-images", type=int, default=24, help="Images of the Ray test with the true models."
    )
