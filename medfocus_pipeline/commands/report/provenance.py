"""Where a report comes from: stores, models, packages, commands, the data set's licence."""

import json
import platform
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medfocus_pipeline import __version__
from medfocus_pipeline.commands.report.opened import Opened
from medfocus_pipeline.config import ProbeRow
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.phantoms.folder import SETTINGS
from medfocus_pipeline.encoders import model_id
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.located import opened_of
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.opening import describe
from medfocus_pipeline.stores.store import Store

USE = (
    "Research use only. This is not a medical device: nothing here may decide about a patient, "
    "and no figure says how the method does on other scanners, hospitals or people."
)


def provenance(opened: Opened) -> dict[str, dict[str, str]]:
    """Heading -> name -> value; values may have several lines. No path of this machine is in it."""
    stores = _stores(opened)
    described = [describe(store.path) for store in stores]
    return {
        "Use": {"intended": USE},
        "Commands": _commands(opened) | _tunings(opened),
        "Data set": _data(opened.dataset),
        "Models": _models(stores),
        "Stores": {
            f"{one.recipe.stage}: {one.path.name}": (
                f"key {one.key}\n{len(one.index().done):,} rows, made {facts.get('created', '?')}"
            )
            for one, facts in zip(stores, described, strict=True)
        },
        "Packages": _packages(described),
    }


def _stores(opened: Opened) -> list[Store]:
    """Those of the settings used last, and those that results of the table were made from."""
    context, rows = opened.context, opened.rows
    keys = {store.key for store in opened_of(opened.stores.all())}
    shown = {run.key for row in rows.ranked for run in rows.runs(row)}
    for row in results.read(context.folder / "results").to_pylist():
        if row["run_key"] in shown:
            parts = [*row["embedding_keys"].split(","), row["masks_key"] or ""]
            keys |= {part.partition("/")[0] for part in parts}
    found = [
        store for stage in catalog.STAGES for store in catalog.open_stores(context.folder, stage)
    ]
    return [store for store in found if store.key in keys]


def _models(stores: Sequence[Store]) -> dict[str, str]:
    """Model id -> revision and the hash of each file."""
    found: dict[str, str] = {}
    for store in stores:
        model = store.recipe.model
        revision = [f"revision {store.revision}"] if store.revision else []
        files = [f"{name} sha256 {hash_}" for name, hash_ in model["files"].items()]
        found[str(model["id"])] = "\n".join([*revision, *files]) or "has no weights"
    return found


def _packages(described: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name -> version when the stores were made, several if they differ; and what wrote this."""
    found: dict[str, list[str]] = {}
    for facts in described:
        for name, version in facts.get("packages", {}).items():
            known = found.setdefault(name, [])
            known += [] if version in known else [version]
    here = {"this report": f"MedFocus {__version__}, Python {platform.python_version()}"}
    return here | {name: ", ".join(versions) for name, versions in sorted(found.items())}


def _data(dataset: Dataset) -> dict[str, str]:
    card = dataset.card
    return {
        "title": card.title,
        "modality": card.modality,
        "source": card.source or "not given in the card",
        "licence": card.licence or "not given in the card: find out before you publish",
        "citation": card.citation or "not given in the card",
    }


def _commands(opened: Opened) -> dict[str, str]:
    """Stage -> what to type, in order; settings that are not the profile's are spelled out."""
    context = opened.context
    name, profile, folder = context.dataset, context.profile, _folder(context)
    named = _profile(context)
    found = _drawn(context, opened.dataset, folder)
    changes = list(_changes(context.masks, profile.masks))
    if changes:
        place = ["--data", folder] if folder else []
        found["masks"] = _medfocus("masks", name, [*place, "--profile", named, *changes])
    else:
        place = [f"DATA={folder}"] if folder else []
        found["masks"] = " ".join([f"make masks DATASET={name}", *place, f"PROFILE={named}"])
    for stage, now, before in (
        ("embed", context.embed, profile.embed),
        ("probe", context.probe, profile.probe),
    ):
        changes = list(_changes(now, before))
        found[stage] = (
            _medfocus(stage, name, changes) if changes else f"make {stage} DATASET={name}"
        )
    if opened.rows.reproduced:
        found["reproduce"] = f"make reproduce DATASET={name}"
    found["report"] = f"make report DATASET={name}"
    return found


def _tunings(opened: Opened) -> dict[str, str]:
    """How each network was fine-tuned."""
    context, found = opened.context, {}
    for number, one in enumerate(opened.networks, 1):
        encoder = one.tuning.encoder
        model = encoder.name if encoder == _default(encoder) else model_id(encoder)
        options = ["--profile", _profile(context), "--model", model]
        options += _changes(one.tuning.config, TuningConfig())
        found[f"finetune {number}"] = _medfocus("finetune", context.dataset, options)
    return found


def _drawn(context: Context, dataset: Dataset, folder: str) -> dict[str, str]:
    """How phantoms were drawn, if the data set is one."""
    path = context.data / SETTINGS
    if not path.is_file():
        return {}
    settings = json.loads(path.read_text(encoding="utf-8"))
    sides = Counter(dataset.manifest.strings("split"))
    counts = {"train": sides["train"] + sides[""], "test": sides["test"]}
    options = [f"--{key} {value}" for key, value in (counts | settings).items() if key != "kind"]
    place = [f"--data {folder}"] if folder else []
    return {"phantom": " ".join(["medfocus phantom", settings["kind"], *options, *place])}


def _folder(context: Context) -> str:
    """What to put the images' folder in for; empty if they are where they are looked for."""
    return "" if context.data == Path("data", context.dataset).resolve() else "path/to/images"


def _profile(context: Context) -> str:
    name = context.profile_name
    return f"path/to/{Path(name).name}" if Path(name).is_absolute() else name


def _medfocus(stage: str, name: str, changes: Sequence[str]) -> str:
    return shlex.join(["medfocus", stage, name, *changes])


def _changes(now: BaseModel, before: BaseModel, prefix: str = "") -> Iterator[str]:
    """Options that turn one configuration into another."""
    for name in type(now).model_fields:
        value, old, key = getattr(now, name), getattr(before, name, None), f"{prefix}{name}"
        if value == old:
            continue
        if name == "rows":
            yield from _row_options(value)
        elif isinstance(value, BaseModel):
            if type(value) is not type(old):
                yield from ("--set", f"{key}.name={getattr(value, 'name', '')}")
                old = _default(value)
            yield from _changes(value, old, f"{key}.")
        else:
            yield from ("--set", f"{key}={_yaml(value)}")


def _default(config: Any) -> Any:
    """The configuration of the same name that sets nothing; what it must be told is absent."""
    return type(config).model_construct(name=config.name)


def _row_options(rows: Sequence[ProbeRow]) -> Iterator[str]:
    plain = all(row.head == _default(row.head) for row in rows)
    if not plain:
        yield from ("--set", f"rows={json.dumps([row.model_dump(mode='json') for row in rows])}")
        return
    for row in rows:
        yield from ("--row", f"{row.head.name}:{row.parts}")


def _yaml(value: object) -> str:
    """A value as ``--set`` reads it; a path by its name alone."""
    if isinstance(value, Path):
        return f"path/to/{value.name}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)
