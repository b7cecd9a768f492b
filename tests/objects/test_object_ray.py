"""Workers of Ray on images and a cache in an object store; one of them is killed in between."""

import logging
from pathlib import Path

import pytest

from medfocus_pipeline import Project, embedding, segmentation
from medfocus_pipeline.config import RayConfig, Runtime
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.project.progress import silent
from tests.engines.conftest import Killer, after_each_shard, cluster
from tests.objects.conftest import Server
from tests.objects.test_object_pipeline import SHARD, drawn, files, put_images
from tests.stages.conftest import Medfocus, medfocus

__all__ = ["cluster", "drawn", "medfocus"]


@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_workers_fill_in_a_bucket_what_threads_fill_in_folders(
    running: Server,  # before Ray starts, whose workers have its variables
    cluster: None,
    medfocus: Medfocus,  # of the weights
    bucket: ObjectPath,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(segmentation, "SHARD_ROWS", SHARD)
    monkeypatch.setattr(embedding, "SHARD_ROWS", SHARD)
    images = put_images(bucket / "shapes", drawn, "*.png")
    on_ray = Runtime(engine=RayConfig(workers=2), device="cpu")
    kill = Killer()
    caches = {
        bucket / "cache": (images, on_ray, after_each_shard([kill])),
        tmp_path / "cache": (drawn, None, silent),
    }
    for cache, (data, runtime, progress) in caches.items():
        project = Project.open("shapes", data=data, profile="imagenet", cache=cache)
        with caplog.at_level(logging.WARNING):
            filled = project.masks.fill(runtime, progress=progress)
        assert filled is not None
        assert filled.computed == 60
        project.embeddings().fill(runtime)
    assert len(kill.killed) == 1
    assert "Workers died, and were started again: shards" in caplog.text
    assert files(bucket / "cache") == files(tmp_path / "cache")
