"""``medfocus profiles``: what each profile is, what it needs, and every setting of one."""

from pathlib import Path

from medfocus_pipeline import profiles
from medfocus_pipeline.commands import doctor
from medfocus_pipeline.commands.model_names import model_id
from medfocus_pipeline.commands.models import models_of
from medfocus_pipeline.commands.output import human, say, say_columns


def run(name: str | None, *, cache: Path) -> None:
    """List the profiles, or print one as YAML that can be changed and named again.

    Args:
        name: of a profile, or a YAML file; None lists them.
    """
    if name is not None:
        say(profiles.full_text(name).rstrip())
        return
    rows = []
    for known in profiles.names():
        mark = " (default)" if known == profiles.DEFAULT else ""
        rows.append((known + mark, f"{profiles.summary(known)}\n{_downloads(known, cache)}"))
    say_columns(("profile", "what"), rows)
    say("All settings of one: medfocus profiles offline")
    say("Your own: medfocus profiles offline > mine.yaml, then PROFILE=mine.yaml")


def _downloads(name: str, cache: Path) -> str:
    profile = profiles.load_profile(name)
    models = [model_id(config) for config in models_of(profile)]
    sizes = {model: size for model in models if (size := doctor.download_size(model))}
    if not sizes:
        return "downloads nothing"
    state = "not all here yet" if doctor.missing(profile, cache) else "here already"
    listed = ", ".join(f"{model} {human(size)}" for model, size in sizes.items())
    return f"downloads {listed}: {state}"
