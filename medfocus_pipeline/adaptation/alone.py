"""A head on the labelled images alone: source-only, and the oracle whose source is the target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.adaptation.protocol import Adapted, Task, check
from medfocus_pipeline.config.adaptation import AloneConfig
from medfocus_pipeline.heads.many import fit_all
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.heads.table import make_head
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Alone:
    """Fits a head on each subset of the source; the target's images teach it nothing."""

    config: AloneConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One head a seed."""
        check(task)
        trains = [task.train(rows) for rows in subsets]
        fitted = fit_all(make_head(self.config.head), trains, generators(seeds))
        return classified(fitted, [task] * len(seeds), subsets)


def generators(seeds: Sequence[int]) -> list[np.random.Generator]:
    """What each seed's run draws from."""
    return [generator("adaptation", seed) for seed in seeds]


def classified(
    fitted: Sequence[FittedHead],
    tasks: Sequence[Task],
    subsets: Sequence[IntArray],
    *,
    seen: Callable[[FloatArray], FloatArray] | None = None,
) -> Adapted:
    """What fitted heads say of the test images.

    Args:
        fitted: one a seed.
        tasks: whose test images they classify, one each.
        subsets: rows of the source that they were fitted on.
        seen: ``(m, d)`` features -> ``(m, p)``, what the first of them classifies; None is the
            features themselves.
    """
    said = [one.predict_proba(task.test[:, None]) for one, task in zip(fitted, tasks, strict=True)]
    projected = None
    if seen is not None:
        projected = seen(tasks[0].source[subsets[0], 0]), seen(tasks[0].target[:, 0])
    probabilities = np.stack(said).astype(np.float32)
    return Adapted(probabilities, tuple(dict(one.chosen) for one in fitted), projected)
