"""Where there is no Ray, or no cluster, the message says what to do."""

import socket
import sys

import pytest

from medfocus_pipeline.config import RayConfig, Runtime
from medfocus_pipeline.errors import ConfigError
from tests.engines.conftest import Open


def test_without_ray_the_message_names_the_extra(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'medfocus-pipeline\[ray\]'"):
        opened("cache").masks.fill(Runtime(engine=RayConfig()))


@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_an_address_where_no_cluster_is_is_named(opened: Open) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        runtime = Runtime(engine=RayConfig(address=address))
        with pytest.raises(ConfigError, match=rf"no Ray cluster at {address}.*ray start --head"):
            opened("cache").masks.fill(runtime)
