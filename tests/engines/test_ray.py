"""Ray's workers fill the very stores that threads fill, whatever happens to them in between."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files as files_of
from pathlib import Path

import pytest

from medfocus_pipeline import Project
from medfocus_pipeline.config import LiteClipConfig, ProbeConfig, RayConfig, Runtime
from medfocus_pipeline.engines import ray_actors, ray_cluster
from medfocus_pipeline.errors import ConfigError, DataError, StoreError, WeightsError
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.project.located import opened_of
from medfocus_pipeline.project.progress import Advance, silent
from tests.engines.conftest import IMAGES, SHARD_ROWS, Killer, Open, after_each_shard, files

ON_RAY = Runtime(engine=RayConfig(workers=2), device="cpu")
THREADS = Runtime(device="cpu")

pytestmark = [
    pytest.mark.usefixtures("small_shards"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def stop() -> None:
    raise KeyboardInterrupt


def test_masks_embeddings_and_results_are_those_of_threads(cluster: None, opened: Open) -> None:
    ours, theirs = opened("ray"), opened("threads")
    for project, runtime in ((ours, ON_RAY), (theirs, THREADS)):
        filled = project.masks.fill(runtime)
        assert filled is not None
        assert filled.computed == IMAGES
        project.embeddings().fill(runtime)
    stores = [
        [project.masks.store, *opened_of(project.embeddings().locate().embeddings)]
        for project in (ours, theirs)
    ]
    assert len(stores[0]) == 2
    for one, other in zip(*stores, strict=True):
        assert one and other
        assert len(one.index().parts) == IMAGES // SHARD_ROWS
        assert files(one) == files(other)
    config = ProbeConfig(fractions=(50, 100), seeds=2)
    for project, engine in ((ours, ON_RAY.engine), (theirs, THREADS.engine)):
        assert project.probe(["linear:segmented"], config=config, engine=engine, workers=1) == 4
    assert ours.predictions().equals(theirs.predictions())
    assert ours.subsets().equals(theirs.subsets())
    results = [project.results().drop_columns(["seconds"]) for project in (ours, theirs)]
    assert results[0].equals(results[1])
    assert ours.masks.fill(ON_RAY) is None


def test_killed_workers_cost_their_shards_in_flight_and_are_told_of(
    cluster: None, opened: Open, caplog: pytest.LogCaptureFixture, pytestconfig: pytest.Config
) -> None:
    kill = Killer()
    ours, theirs = opened("ray"), opened("threads")
    kills: int = pytestconfig.getoption("kills")
    with caplog.at_level(logging.WARNING):
        filled = ours.masks.fill(ON_RAY, progress=after_each_shard([kill, None] * kills))
    theirs.masks.fill(THREADS)
    assert len(kill.killed) == kills
    assert filled is not None
    assert filled.computed == IMAGES
    assert "Workers died, and were started again: shards" in caplog.text
    assert files(ours.masks.store) == files(theirs.masks.store)


@pytest.mark.parametrize(("first", "second"), [(THREADS, ON_RAY), (ON_RAY, THREADS)])
def test_one_engine_finishes_what_the_other_began(
    cluster: None, opened: Open, first: Runtime, second: Runtime
) -> None:
    begun, whole = opened("begun"), opened("whole")
    with pytest.raises(KeyboardInterrupt):
        begun.masks.fill(first, progress=after_each_shard([None] * 3 + [stop]))
    done = len(begun.masks.store.index().parts)
    assert 0 < done < IMAGES // SHARD_ROWS
    begun.masks.fill(second)
    whole.masks.fill(THREADS)
    assert files(begun.masks.store) == files(whole.masks.store)


def test_a_bad_image_is_not_the_trouble_of_its_shard(cluster: None, opened: Open) -> None:
    project = opened("ray")
    name = next(iter(project.dataset.files.values()))
    (project.dataset.root / name).write_bytes(b"no picture any more")
    filled = project.masks.fill(ON_RAY)
    assert filled is not None
    assert filled.computed == IMAGES - 1
    assert list(project.dataset.problems) == [name]


def test_other_versions_on_a_node_are_named(
    cluster: None, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The driver's are patched: a worker with other packages would be another environment.
    found = dict.fromkeys(("medfocus-pipeline", "numpy", "torch"), "1.0.7")
    monkeypatch.setattr(ray_cluster, "versions", lambda _: found)
    with pytest.raises(ConfigError, match=r"Node \S+ has .*numpy .* \(the driver has 1\.0\.7\)"):
        opened("ray").masks.fill(ON_RAY)


def test_a_worker_that_sees_another_cache_writes_nothing(
    cluster: None, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = opened("ray")
    # As where the path is a folder of each node's own: its lock is not the driver's.
    monkeypatch.setattr(ray_actors, "holder_of", lambda _: "the driver's")
    with pytest.raises(StoreError, match=r"Node \S+: the folder .* is not the one that the driver"):
        project.masks.fill(ON_RAY)
    assert not project.masks.store.index().parts


def test_a_worker_that_cannot_see_the_images_says_so(cluster: None, opened: Open) -> None:
    project = opened("ray")
    project.dataset = replace(project.dataset, root=project.dataset.root / "not-mounted")
    with pytest.raises(DataError, match=r"Node \S+: the images of .*not-mounted cannot be seen"):
        project.masks.fill(ON_RAY)


def test_more_gpus_than_the_cluster_has_are_refused(cluster: None, opened: Open) -> None:
    runtime = Runtime(engine=RayConfig(gpus_per_worker=0.5))
    with pytest.raises(ConfigError, match=r"2 cores and 0 GPUs.*--gpus-per-worker 0"):
        opened("ray").masks.fill(runtime)


def test_the_profile_may_name_the_engine(cluster: None, opened: Open, tmp_path: Path) -> None:
    del opened  # it has put the images there
    profile = tmp_path / "cluster.yaml"
    profile.write_text(
        "engine: { name: ray, gpus_per_worker: 1 }\nmasks: { segmenter: { name: threshold } }\n",
        encoding="utf-8",
    )
    project = Project.open(
        "shapes", data=tmp_path / "images", profile=str(profile), cache=tmp_path / "ray"
    )
    with pytest.raises(ConfigError, match="0 GPUs"):
        project.masks.fill()


def test_weights_that_are_not_on_a_node_are_named(
    cluster: None, opened: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(files_of("medfocus_pipeline") / "encoders" / "lite_clip_weights", folder)
    encoder = LiteClipConfig(checkpoint=folder)
    plan = EmbedPlan(encoder=encoder, focus=("original",), views=("identity",))

    @contextmanager
    def progress(what: str, total: int, /) -> Iterator[Advance]:
        if what.startswith("embedding"):  # as on a node that never had them
            shutil.rmtree(folder)
        with silent(what, total) as advance:
            yield advance

    with pytest.raises(WeightsError, match=rf"Node \S+: .*{re.escape(str(folder))}"):
        opened("ray").embeddings_of(plan).fill(ON_RAY, progress=progress)
