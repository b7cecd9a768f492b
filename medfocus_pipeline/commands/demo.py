"""``medfocus demo``: the whole pipeline on drawn images, as the four commands would run it."""

import time
from pathlib import Path

from medfocus_pipeline.commands import embed, masks, phantom, probe, report
from medfocus_pipeline.commands.output import say
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet
from medfocus_pipeline.project.agreement import read_agreement
from medfocus_pipeline.project.located import opened
from medfocus_pipeline.project.settings import Context, open_context
from medfocus_pipeline.project.stores import locate_masks

_KIND = "brain"


def run(
    data: Path | None, *, train: int, test: int, cache: Path, profile: str, workers: int
) -> None:
    """Draw phantoms, segment, embed and probe them, write the report; nothing is done twice.

    Args:
        data: folder of the phantoms; None is ``data/phantom-brain``.
        profile: what each stage does, whatever the data set was last run with.
        workers: processes that draw and that fit heads.
    """
    started = time.monotonic()
    folder = data or phantom.default_folder(_KIND)

    def opened() -> Context:
        # Anew for each stage: the one before has changed what is remembered.
        return open_context(phantom.name_of(_KIND), data=folder, cache=cache, profile=profile)

    chosen = opened().profile
    say("1 of 5, phantom: draw images whose lesions are known")
    phantom.run(
        PhantomSet(kind=_KIND), folder, train=train, test=test, workers=workers, force=False
    )
    say(f"\n2 of 5, masks: find candidate regions ({chosen.masks.segmenter.name})")
    masks.run(opened(), chosen.masks, Runtime(), strict=False)
    say(f"\n3 of 5, embed: look at the focused images ({chosen.embed.encoder.name})")
    embed.run(opened(), chosen.embed, Runtime(), strict=False)
    say("\n4 of 5, probe: learn from few labels, score on the test images")
    probe.run(opened(), chosen.probe, workers=workers, engine=Runtime().engine)
    say("\n5 of 5, report: one page to look at")
    page = opened().folder / "report" / "index.html"
    if _is_newer(page, than=opened().folder):
        say("report: nothing to do")
    else:
        report.run(opened())
    say("")
    _say_agreement(opened())
    say(f"demo: {time.monotonic() - started:.0f} s")
    _say_next(profile)
    say(f"\nopen in a browser: {page}")


def _is_newer(page: Path, *, than: Path) -> bool:
    """Whether a page was written after the results and the manifest in a folder."""
    sources = [than / "manifest.parquet", *(than / "results").glob("*.parquet")]
    return page.exists() and all(
        source.stat().st_mtime_ns < page.stat().st_mtime_ns for source in sources
    )


def _say_agreement(context: Context) -> None:
    """The line that `masks` has for the ROI rule of the profile."""
    dataset = open_dataset(context, rescan=False)
    store = opened(locate_masks(context, dataset, context.masks))
    measured = read_agreement(store) if store else {}
    if not measured:
        return
    iou, rule = measured["mean_iou"], context.embed.configs(auto=dataset.card.roi)[0].roi
    if rule in iou:
        say(
            f"mean IoU of the ROI with the phantom's annotation: {iou[rule]:.3f} (rule {rule}, "
            f"{measured['images']:,} images with a lesion; {iou['oracle']:.3f} if the best "
            "candidate were always chosen)"
        )


def _say_next(profile: str) -> None:
    say(
        "\nnext, your own images, a folder of class folders (or a CSV, see data/README.md):\n"
        f"  make masks DATASET=mine DATA=path/to/images PROFILE={profile}\n"
        "  make embed\n"
        "  make probe\n"
        "other drawn sets: make phantom KIND=breast; other settings: make profiles"
    )
