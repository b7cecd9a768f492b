"""Networks that are fine-tuned on a cluster are those that this process would have trained."""

import numpy as np
import pytest

from medfocus_pipeline.config import EfficientNetLiteConfig, RayConfig, Runtime
from medfocus_pipeline.config.tuning import FinetuneConfig, TuningConfig
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.predictions import read_predictions
from medfocus_pipeline.project.finetuning import Finetuning
from medfocus_pipeline.stores import lock
from tests.engines.conftest import Open

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

CONFIG = TuningConfig(run=FinetuneConfig(trained="layer", epochs=3), fractions=(20.0,), seeds=2)
ON_RAY = Runtime(engine=RayConfig(workers=2), device="cpu")


def tuning(opened: Open, cache: str) -> Finetuning:
    made = Finetuning(opened(cache), EfficientNetLiteConfig(), CONFIG)
    made.pictures.fill(Runtime(device="cpu"))
    return made


def test_runs_are_those_of_this_process_and_their_epochs_are_told(opened: Open) -> None:
    ours, theirs, told = tuning(opened, "ray"), tuning(opened, "threads"), []
    assert ours.fit(ON_RAY, watch=lambda run, epoch: told.append((run.seed, epoch.number))) == 2
    assert theirs.fit(Runtime(device="cpu")) == 2
    keys = [run.key for run in ours.runs()]
    assert keys == [run.key for run in theirs.runs()]
    answers = [
        read_predictions(results.read(one.project.results_folder, "predictions"), keys)
        for one in (ours, theirs)
    ]
    for key in keys:
        one, other = (found[key] for found in answers)
        # Sums that two threads share are not those of one to the last bit.
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)
    assert {seed for seed, _ in told} == {0, 1}
    assert [number for seed, number in told if seed == 0][:2] == [1, 2]
    assert ours.fit(ON_RAY) == 0
    assert not list(ours.folder.glob("*.inputs"))
    assert not list(ours.folder.glob("*/checkpoint.pt"))


def test_a_node_that_sees_another_cache_trains_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tuning(opened, "ray")
    monkeypatch.setattr(
        "medfocus_pipeline.project.finetuning.holder_of",
        lambda folder: f"{lock.holder_of(folder)} of another machine",
    )
    with pytest.raises(StoreError, match=r"^Node \S+: the folder .* is not the one that"):
        made.fit(ON_RAY)
