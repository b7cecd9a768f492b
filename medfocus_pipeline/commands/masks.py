"""``medfocus masks``: segment every image, cache its candidate masks."""

from medfocus_pipeline.columns import row_array
from medfocus_pipeline.commands.output import bar, say, say_filled, say_problems
from medfocus_pipeline.commands.scan import open_project
from medfocus_pipeline.config import MasksConfig, Runtime
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.errors import counted
from medfocus_pipeline.project.agreement import measure_agreement
from medfocus_pipeline.project.settings import Context


def _counts(manifest: Manifest) -> str:
    """Usable images of each class, such as ``glioma 15, notumor 15``."""
    names = manifest.column("class_name").take(row_array(manifest.usable))
    counts = sorted((one["values"], one["counts"]) for one in names.value_counts().to_pylist())
    return ", ".join(f"{name or 'none'} {count:,}" for name, count in counts)


def run(context: Context, config: MasksConfig, runtime: Runtime, *, strict: bool) -> int:
    """Compute the missing rows of the mask store.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    project = open_project(context)
    masks = project.masks_of(config)
    problems = project.dataset.problems
    say(f"classes: {_counts(project.dataset.manifest)}")
    filled = masks.fill(runtime)
    if filled is None:
        images = counted(len(project.dataset.files), "image is", "images are")
        say(f"masks: all {images} done, nothing to do")
    else:
        say_filled(filled)
        empty = masks.without_candidate()
        if empty:
            images = counted(empty, "image has", "images have")
            whose = "its" if empty == 1 else "their"
            say(f"{images} no candidate: {whose} ROI is the whole image")
    problems |= project.dataset.problems
    say(f"store: {masks.store.path}")
    measured = measure_agreement(project.dataset, masks.store, bar)
    if measured.get("images"):
        say(f"mean IoU of the ROI with the annotations of {counted(measured['images'], 'image')}:")
        for rule, value in measured["mean_iou"].items():
            say(f"  {rule}: {value:.3f}")
    say_problems(problems)
    return int(strict and bool(problems))
