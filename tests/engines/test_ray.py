"""Ray's workers fill the very stores that threads fill, whatever happens to them in between."""

import logging
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files as files_of
from pathlib import Path

import pytest

from medfocus_pipeline import Project
from medfocus_pipeline.config import LiteClipConfig, RayConfig, Runtime
from medfocus_pipeline.engines import ray_actors
from medfocus_pipeline.errors import ConfigError, DataError, StoreError, WeightsError
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.project.progress import Advance, Progress, silent
from medfocus_pipeline.sealed import parse_json
from medfocus_pipeline.stores.store import Store
from tests.engines.conftest import IMAGES, SHARD_ROWS, Open

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install medfocus-pipeline[ray]")

ON_RAY = Runtime(engine=RayConfig(workers=2), device="cpu")
THREADS = Runtime(device="cpu")

pytestmark = [
    pytest.mark.usefixtures("small_shards"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home folder
        ray.init(
            "local",  # also where this machine is in a cluster
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            _node_ip_address="127.0.0.1",
        )
        try:
            yield
        finally:
            ray.shutdown()
    assert not workers()


def workers() -> list[int]:
    """Processes of this test's cluster that compute."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return [
        pid
        for pid, name in names.items()
        if name.startswith(b"ray::_Worker") and parents.get(parents[pid]) == os.getpid()
    ]


def after_each_shard(act: "list[object]") -> Progress:
    """Progress that calls the next of some functions each time it moves on."""
    rest = iter(act)

    @contextmanager
    def progress(what: str, total: int, /) -> Iterator[Advance]:
        def advance(rows: int, total: int | None = None, /) -> None:
            function = next(rest, None)
            if callable(function):
                function()

        yield advance

    return progress


def files(store: Store) -> dict[str, bytes | dict[str, object]]:
    """All that a store is on disk, but when it was made."""
    found: dict[str, bytes | dict[str, object]] = {}
    for path in sorted(store.path.rglob("*")):
        if path.is_file() and path.name != ".lock":
            found[path.relative_to(store.path).as_posix()] = path.read_bytes()
    described = dict(parse_json(store.path / "store.json"))
    found["store.json"] = {
        name: value for name, value in described.items() if name not in {"created", "sha256"}
    }
    return found


def stop() -> None:
    raise KeyboardInterrupt


def test_masks_and_embeddings_are_those_of_threads(cluster: None, opened: Open) -> None:
    ours, theirs = opened("ray"), opened("threads")
    for project, runtime in ((ours, ON_RAY), (theirs, THREADS)):
        filled = project.masks.fill(runtime)
        assert filled is not None
        assert filled.computed == IMAGES
        project.embeddings().fill(runtime)
    stores = [
        [project.masks.store, *(one.store for one in project.embeddings().locate().embeddings)]
        for project in (ours, theirs)
    ]
    assert len(stores[0]) == 2
    for one, other in zip(*stores, strict=True):
        assert one and other
        assert len(one.index().parts) == IMAGES // SHARD_ROWS
        assert files(one) == files(other)
    assert ours.masks.fill(ON_RAY) is None


def test_killed_workers_cost_their_shards_in_flight_and_are_told_of(
    cluster: None, opened: Open, caplog: pytest.LogCaptureFixture, pytestconfig: pytest.Config
) -> None:
    killed: list[int] = []

    def kill() -> None:
        victim = next(pid for pid in workers() if pid not in killed)
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    ours, theirs = opened("ray"), opened("threads")
    kills: int = pytestconfig.getoption("kills")
    with caplog.at_level(logging.WARNING):
        filled = ours.masks.fill(ON_RAY, progress=after_each_shard([kill, None] * kills))
    theirs.masks.fill(THREADS)
    assert len(killed) == kills
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
    monkeypatch.setattr(ray_actors, "_versions", lambda: found)
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
