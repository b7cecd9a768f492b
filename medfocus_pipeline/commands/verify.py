"""``medfocus cache verify``: every sealed file of a data set's cache is read and compared."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeAlias

from medfocus_pipeline.commands import audit
from medfocus_pipeline.commands.output import say
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.similarity import check_fingerprints
from medfocus_pipeline.errors import AccessError, DamagedError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.gate import saved as gates
from medfocus_pipeline.project.agreement import AGREEMENT
from medfocus_pipeline.project.gate_table import SCORES
from medfocus_pipeline.project.settings import SETTINGS, check_settings
from medfocus_pipeline.sealed import present, read_json
from medfocus_pipeline.sealed_tables import read_table
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import DESCRIBED, open_store
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.tuning import kept

Check: TypeAlias = Callable[[], object]


def verify(folder: Path, *, repair: bool) -> int:
    """Read all of one data set's cache and say what is not as it was written.

    Args:
        folder: the data set's part of the cache.
        repair: forget shards and remove files that are damaged, so that a run makes them again;
            what cannot be read now is left alone, and so are the manifest and the settings, which a
            scan replaces.

    Returns:
        Number of problems.
    """
    wrong = 0
    for path in catalog.store_folders(folder):
        wrong += _store(path, repair=repair)
    for path, check, again in _files(folder):
        problem = _problem(path, check)
        if problem is None:
            continue
        wrong += 1
        say(f"{problem}. Run: {again}")
        if repair and not isinstance(problem, AccessError) and path.name not in _KEPT:
            with disk_errors(path.parent):
                path.unlink(missing_ok=True)
    return wrong


_MANIFEST = "manifest.parquet"
_KEPT = (_MANIFEST, SETTINGS)


def _files(folder: Path) -> Iterator[tuple[Path, Check, str]]:
    """Every sealed file beside the stores, how it is checked, and what makes it again."""
    path = folder / _MANIFEST
    yield path, partial(manifests.read, path), "medfocus scan"
    place = folder / "results"
    again = "medfocus adapt" if present(place / "adaptation.parquet") else "medfocus probe"
    for name in results.FILES:
        yield place / f"{name}.parquet", partial(results.read, place, name), again
    path = folder / "fingerprints.parquet"
    yield path, partial(check_fingerprints, path), "medfocus audit"
    path = folder / SETTINGS
    yield path, partial(check_settings, path), "medfocus scan, which takes them as they are"
    yield folder / audit.PAIRS, partial(audit.read_pairs, folder), "medfocus audit"
    yield folder / audit.COUNTS, partial(audit.thresholds, folder), "medfocus audit"
    place = folder / "gate"
    yield place / gates.DESCRIBED, partial(gates.load_gate, place), "medfocus scan --gate"
    path = place / SCORES
    yield path, partial(read_table, path, owner=SCORES), "medfocus gate"
    for path in sorted(folder.glob(f"tuning/*/{kept.RUN}")):
        yield path, partial(kept.read_kept, path.parent), "medfocus finetune"


def _problem(path: Path, check: Check) -> StoreError | None:
    if not present(path):
        return None
    try:
        check()
    except (DamagedError, AccessError) as error:
        return error
    return None


def _store(path: Path, *, repair: bool) -> int:
    if path.is_dir() and not present(path / DESCRIBED):
        say(f"{path.name}: a run that was killed left it before it held anything")
        return 0
    try:
        store = open_store(path)
    except StoreError as error:
        say(f"{path.name}: {error}")
        return 1
    with writing(path) if repair else nullcontext():
        problems = _shards(store, repair=repair) + _agreement(store, repair=repair)
        for problem in problems:
            say(f"{path.name}: {problem}")
        left = " left" if problems and repair else ""
        say(f"{path.name}: {len(store.index(columns=['image_id']).done):,} rows{left}")
    return len(problems)


def _shards(store: Store, *, repair: bool) -> list[str]:
    try:
        described = store.description_problem()
        if described and not repair:
            return [described]
        if described:
            store.reserve(1 + max(store.index().parts, default=-1))
        wrong = store.verify()
    except AccessError as error:
        return [str(error)]
    if repair:
        store.drop(wrong)
        store.compact()
    found = [f"shard {shard}: {problem}" for shard, problem in wrong.items()]
    return [described, *found] if described else found


def _agreement(store: Store, *, repair: bool) -> list[str]:
    path = store.path / AGREEMENT
    problem = _problem(path, partial(read_json, path, owner=store.key))
    if repair and isinstance(problem, DamagedError):
        path.unlink(missing_ok=True)
    return [str(problem)] if problem else []
