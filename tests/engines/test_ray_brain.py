"""Masks and embeddings by the models that come along, on a cluster whose workers die."""

import shutil
from pathlib import Path

import pytest

from medfocus_pipeline import Project
from medfocus_pipeline.config import RayConfig, Runtime
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet
from medfocus_pipeline.datasets.phantoms.writer import plan, prepare, write
from medfocus_pipeline.datasets.tree import find_images
from medfocus_pipeline.project.located import opened_of
from tests.engines.conftest import Killer, after_each_shard, files

BRAIN = Path(__file__).parents[3] / "shared" / "data" / "brain"


def first_images(folder: Path, count: int) -> Path:
    """The first of the brain sample, or, where it is not beside the repository, phantoms."""
    if BRAIN.is_dir():
        for file in find_images(BRAIN)[:count]:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(BRAIN / file.path, folder / file.path)
    else:
        drawn = plan(PhantomSet(kind="brain"), folder, train=0, test=count)
        prepare(drawn)
        write(drawn, workers=1)
    return folder


@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
@pytest.mark.usefixtures("small_shards", "cluster")
def test_killed_workers_lose_no_mask_and_no_embedding(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """By hand at full size: ``--ray-images 200 --kills 5``."""
    count: int = pytestconfig.getoption("ray_images")
    kills: int = pytestconfig.getoption("kills")
    images = first_images(tmp_path / "images", count)
    kill = Killer()
    ours, theirs = (
        Project.open("brain", data=images, profile="offline", cache=tmp_path / engine)
        for engine in ("ray", "threads")
    )
    on_ray = Runtime(engine=RayConfig(workers=2), device="cpu")
    ours.masks.fill(on_ray, progress=after_each_shard([kill, None] * (kills // 2)))
    ours.embeddings().fill(on_ray, progress=after_each_shard([None, kill] * (kills - kills // 2)))
    theirs.masks.fill(Runtime(device="cpu"))
    theirs.embeddings().fill(Runtime(device="cpu"))
    assert len(kill.killed) == kills
    stores = [
        [project.masks.store, *opened_of(project.embeddings().locate().embeddings)]
        for project in (ours, theirs)
    ]
    assert len(stores[0]) == 4
    paths = ours.dataset.manifest.paths
    assert len(paths) == count
    distinct = len({(images / path).read_bytes() for path in paths})
    for one, other in zip(*stores, strict=True):
        assert one and other
        assert len(one.index()) == distinct  # the brain sample has copies
        assert files(one) == files(other)
