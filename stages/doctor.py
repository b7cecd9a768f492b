"""``medfocus doctor``: whether this machine can run what is asked of it."""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from medfocus_pipeline.devices import cores, resolve_device
from medfocus_pipeline.errors import ConfigError, MedFocusError
from medfocus_pipeline.profiles import DEFAULT, Profile, load_profile
from medfocus_pipeline.weights import FileHashes
from stages.models import find_weights, model_id
from stages.progress import human, out, say
from stages.settings import open_context

_PACKAGES = ("torch", "sam2", "transformers", "timm", "zarr", "pyarrow", "scikit-learn")
_LEAST_FREE = 2e9


class Check(NamedTuple):
    """One finding; `fix` is what to type if it is not `ok`."""

    what: str
    found: str
    ok: bool
    fix: str = ""


def run(dataset: str | None, *, data: Path | None, cache: Path, profile: str | None) -> int:
    """Print every check.

    Returns:
        1 if a check failed, else 0.
    """
    try:
        context = open_context(dataset, data=data, cache=cache, profile=profile)
        name, choice = context.profile_name, context.profile
        place = [_data(context.data)]
    except ConfigError:
        if dataset is not None:
            raise
        name, place = profile or DEFAULT, []
        choice = load_profile(name)
    checks = [*_packages(), *_machine(), _disk(cache), *place, *_weights(name, choice, cache)]
    table = Table("check", "found", "", box=None)
    for check in checks:
        table.add_row(check.what, check.found, "ok" if check.ok else check.fix)
    out.print(table)
    failed = sum(not check.ok for check in checks)
    say("everything is in place" if not failed else f"{failed} things to mend, see above")
    return int(failed > 0)


def _packages() -> list[Check]:
    found = [Check("Python", sys.version.split()[0], sys.version_info >= (3, 11), "3.11 or newer")]
    for name in _PACKAGES:
        try:
            found.append(Check(name, version(name), ok=True))
        except PackageNotFoundError:
            fix = "make install" if name != "sam2" else "pip install --no-build-isolation sam2"
            found.append(Check(name, "not installed", ok=False, fix=fix))
    return found


def _machine() -> list[Check]:
    device = resolve_device("auto")
    return [Check("device", f"{device}, {cores()} cores", ok=True)]


def _disk(cache: Path) -> Check:
    place = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    return Check(f"disk of {cache}", f"{human(free)} free", free > _LEAST_FREE, "free some space")


def _data(data: Path) -> Check:
    found = "is there" if data.exists() else "is not there"
    return Check(f"images at {data}", found, data.exists(), "--data path/to/images")


def _weights(name: str, profile: Profile, cache: Path) -> list[Check]:
    hashes = FileHashes(cache / "weights.json")
    found = []
    for config in (profile.masks.segmenter, profile.embed.encoder):
        model = model_id(config)
        fix = f"medfocus models pull {model}, or --profile offline"
        try:
            here = find_weights(config, hashes, download=False) is not None
        except MedFocusError as error:
            here, fix = False, str(error)
        state = "on this machine" if here else "not on this machine"
        found.append(Check(f"{model} (profile {name})", state, here, fix))
    return found
