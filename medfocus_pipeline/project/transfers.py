"""The runs of a study that have no result are fitted, and kept."""

from collections.abc import Sequence
from pathlib import Path

from medfocus_pipeline.config import EngineConfig
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.processes import executor_of
from medfocus_pipeline.evaluation.transfer import (
    DomainTable,
    Transfer,
    fit_transfer,
    transfer_predictions,
    transfer_rows,
    transfer_subsets,
)
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.stores.lock import writing


def fit_transfers(
    data: DomainTable,
    transfers: Sequence[Transfer],
    folder: Path,
    *,
    workers: int,
    engine: EngineConfig,
    progress: Progress,
) -> int:
    """Fits what has no result in a folder.

    Args:
        folder: of the study's results.
        workers: processes of this machine that fit.
        engine: where they are fitted; a cluster knows its own number of processes.
        progress: over all runs.

    Returns:
        How many runs were fitted.
    """
    done = fitted_keys(folder, "adaptation")
    missing = [one for one in transfers if not set(one.keys) <= done]
    count = sum(len(one.keys) for one in missing)
    if missing:
        number = min(workers, len(missing))
        executor, bar = executor_of(engine, number), progress("fitting", count)
        with writing(folder), executor as within, bar as advance:
            outcomes = within.map(fit_transfer, data.table, missing)
            for one, outcome in zip(missing, outcomes, strict=True):
                results.append(
                    folder,
                    name="adaptation",
                    results=transfer_rows(data.table, one, outcome),
                    predictions=transfer_predictions(data.table, one, outcome),
                    subsets=transfer_subsets(data.table, one),
                )
                advance(len(one.keys))
    return count
