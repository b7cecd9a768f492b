"""``medfocus doctor``: whether this machine can run what is asked of it."""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from medfocus_pipeline.commands.model_names import FAMILIES, find_weights, known, model_id
from medfocus_pipeline.commands.models import ModelConfig, models_of
from medfocus_pipeline.commands.output import human, say, say_columns, say_json
from medfocus_pipeline.devices import cores, resolve_device
from medfocus_pipeline.errors import ConfigError, MedFocusError
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.profiles import Profile, load_profile, names
from medfocus_pipeline.project.settings import open_context
from medfocus_pipeline.weights import FileHashes

_LEAST_FREE = 2e9

_OF_FAMILIES = dict.fromkeys(entry.package for entry in FAMILIES.values() if entry.package)
_PACKAGES = ("torch", *_OF_FAMILIES, "zarr", "pyarrow", "scikit-learn")


class Check(NamedTuple):
    """One finding; `fix` is what to type if it is not `ok`."""

    what: str
    found: str
    ok: bool
    fix: str = ""


def run(
    dataset: str | None,
    *,
    data: Path | None,
    cache: Path,
    profile: str | None,
    as_json: bool = False,
) -> int:
    """Print every check, and for each profile whether it runs here.

    Returns:
        1 if this machine lacks something, or the profile that was named or last used does not
        run, or none does; else 0.
    """
    try:
        context = open_context(dataset, data=data, cache=cache, profile=profile)
        used: str | None = context.profile_name
        place = [_data(context.data)]
    except ConfigError:
        if dataset is not None:
            raise
        used, place = profile, []
    device = Check("device", f"{resolve_device('auto')}, {cores()} cores", ok=True)
    checks = [*_packages(), device, _disk(cache), *place]
    failed = sum(not check.ok for check in checks)
    shown = names() if used is None or used in names() else [*names(), used]
    lacking = {name: missing(load_profile(name), cache) for name in shown}
    running = [name for name in shown if not lacking[name]]
    ready = not failed and (used in running if used else bool(running))
    if as_json:
        found = [check._asdict() for check in checks]
        say_json({"ready": ready, "checks": found, "profiles": lacking})
        return int(not ready)
    rows = [(one.what, one.found, "ok" if one.ok else one.fix) for one in checks]
    say_columns(("check", "found", ""), rows)
    needs = [(name, "no" if lacks else "yes", "\n".join(lacks)) for name, lacks in lacking.items()]
    say_columns(("profile", "runs here", "what is missing"), needs)
    if ready:
        say(f"everything is in place for {', '.join(running)}")
    else:
        say("some things are to be mended, see above")
    return int(not ready)


def missing(profile: Profile, cache: Path) -> list[str]:
    """What a profile needs and this machine does not have, each with what to type."""
    hashes = FileHashes(cache / "weights.json")
    reasons = ((config, lack(config, hashes)) for config in models_of(profile))
    return [f"{model_id(config)}: {reason}" for config, reason in reasons if reason]


def download_size(model: str) -> float | None:
    """About how many bytes a model of the hub has; None if that is not known here."""
    return next((one.download or None for one in known() if model_id(one.config) == model), None)


def lack(config: ModelConfig, hashes: FileHashes) -> str:
    """Why a model does not run here and what to type; empty if it does."""
    package = FAMILIES[type(config)].package
    absent = next((check for check in _packages() if check.what == package and not check.ok), None)
    if absent:
        return f"the package {package} is not installed ({absent.fix})"
    try:
        if find_weights(config, hashes, download=False) is not None:
            return ""
    except MedFocusError as error:
        return str(error)
    model = model_id(config)
    size = download_size(model)
    about = f", about {human(size)}" if size else ""
    return f"weights are not on this machine (medfocus models pull {model}{about})"


def _packages() -> list[Check]:
    found = [Check("Python", sys.version.split()[0], sys.version_info >= (3, 11), "3.11 or newer")]
    for name in _PACKAGES:
        try:
            found.append(Check(name, version(name), ok=True))
        except PackageNotFoundError:
            fix = "make install" if name != "sam2" else "pip install --no-build-isolation sam2"
            found.append(Check(name, "not installed", ok=False, fix=fix))
    return found


def _disk(cache: Path) -> Check:
    if isinstance(cache, ObjectPath):
        return Check(f"cache at {cache}", "an object store", ok=True)
    place = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    return Check(f"disk of {cache}", f"{human(free)} free", free > _LEAST_FREE, "free some space")


def _data(data: Path) -> Check:
    found = "is there" if data.exists() else "is not there"
    return Check(f"images at {data}", found, data.exists(), "--data path/to/images")
