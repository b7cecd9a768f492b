"""Where there is no Ray, or no cluster, the message says what to do."""

import socket
import sys
from pathlib import Path

import pytest

from medfocus_pipeline.config import RayConfig, Runtime
from medfocus_pipeline.errors import ConfigError
from tests.engines.conftest import Open
from tests.stages.conftest import call


def masks(drawn: Path) -> tuple[str | Path, ...]:
    return "masks", "shapes", "--data", drawn / "images", "--profile", drawn / "cheap.yaml"


def test_without_ray_the_message_names_the_extra(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = call(*masks(drawn), "--engine", "ray", cwd=tmp_path)
    assert answer.code == 2
    assert "pip install 'medfocus-pipeline[ray]'" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpus-per-worker", "0.5"), "use --engine ray"),
        (("--engine", "ray", "--address", "nowhere"), "engine.ray.address"),
        (("--engine", "dask"), "'ray'"),
    ],
)
def test_options_that_no_engine_takes_are_refused(
    drawn: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    answer = call(*masks(drawn), *options, cwd=tmp_path)
    assert answer.code == 2
    assert message in answer.err


def test_probe_takes_no_address_without_ray(drawn: Path, tmp_path: Path) -> None:
    answer = call("probe", "shapes", "--data", drawn / "images", "--address", "a:1", cwd=tmp_path)
    assert answer.code == 2
    assert "use --engine ray" in answer.err


@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_an_address_where_no_cluster_is_is_named(opened: Open) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        runtime = Runtime(engine=RayConfig(address=address))
        with pytest.raises(ConfigError, match=rf"no Ray cluster at {address}.*ray start --head"):
            opened("cache").masks.fill(runtime)
