"""What stands above the fold of a report: what ran, the best row, what spoils it."""

from collections.abc import Iterator, Mapping

import numpy as np

from medfocus_pipeline.commands.report.gallery import Survey
from medfocus_pipeline.commands.report.opened import Opened
from medfocus_pipeline.commands.report.table_rows import Rows
from medfocus_pipeline.commands.report.tiles import percent
from medfocus_pipeline.datasets.audit import Audit, patients_warning
from medfocus_pipeline.datasets.manifest_columns import NOT_MEDICAL
from medfocus_pipeline.datasets.phantoms.folder import SETTINGS
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.errors import counted
from medfocus_pipeline.project.stores import encoder_label, masks_label
from medfocus_pipeline.report.content import Summary
from medfocus_pipeline.report.score_table import TableCell, TableRow, heading

_NAMED = 3
"""Files, classes and rows that are named before the rest is counted."""

_MANY_CLASSES = 8


def summarise(opened: Opened, survey: Survey, unread: Mapping[str, str]) -> Summary:
    """The summary in plain words.

    Args:
        unread: path -> problem, of images that were to be shown.
    """
    sentences = [_data(opened), _models(opened), *_results(opened), " ".join(_regions(survey))]
    warnings = list(_warnings(opened, unread))
    return Summary([one for one in sentences if one], warnings, _figures(opened))


def _data(opened: Opened) -> str:
    split, names = opened.split, opened.dataset.manifest.classes
    total = len(split.train) + len(split.test)
    shown = ", ".join(names[:_MANY_CLASSES]) + (" …" if len(names) > _MANY_CLASSES else "")
    drawn = "the data set's own split" if split.official else "a split that MedFocus drew"
    return (
        f"{total:,} images of {len(names)} classes ({shown}): {len(split.train):,} to train and "
        f"{len(split.test):,} to test, {drawn}."
    )


def _models(opened: Opened) -> str:
    context, encoder = opened.context, encoder_label(opened.config.encoder)
    if not opened.masked:
        return f"The encoder {encoder} saw the whole images; no region was looked for."
    return (
        f"The segmenter {masks_label(context.masks)} proposed regions, the rule "
        f"{opened.config.roi} chose one of each image, and the encoder {encoder} turned the "
        f"pictures into features; heads were then trained on few labels."
    )


def _results(opened: Opened) -> Iterator[str]:
    rows, [best, *others] = opened.rows, opened.rows.ranked
    cell = rows.cell(best)
    seeds = f"{cell.runs} seeds" if cell.runs > 1 else "one seed"
    choice = (
        f" It is the highest of {len(rows.ranked)} rows on the same test images, so it is "
        "flattered by the choice: expect somewhat less on new images."
        if others
        else ""
    )
    yield (
        f"With {_amount(rows.budget)} the best row, {best.label}, is right on {_of(cell)} of the "
        f"test images (mean ± standard deviation over {seeds}; in brackets the 95 % interval "
        f"of the test set).{choice}"
    )
    yield _clean(best, cell)
    yield " ".join([*_compared(rows, best), _chance(opened)])


def _compared(rows: Rows, best: TableRow) -> Iterator[str]:
    ours, reference = rows.ours(), rows.reference()
    if ours is not None and ours.label != best.label:
        yield f"The paper's method, {ours.label}, has {_of(rows.cell(ours))}."
    if reference is None or reference.label == best.label:
        return
    gap = 100 * (rows.cell(best).mean - rows.cell(reference).mean)
    sure = (
        "more than chance explains"
        if "▲" in rows.cell(best).mark
        else "which may be chance: the tests do not tell the two apart"
    )
    yield (
        f"The reference, {reference.label}, has {_of(rows.cell(reference))}; the best row leads by "
        f"{gap:.1f} points, {sure}."
    )


def _clean(best: TableRow, cell: TableCell) -> str:
    clean, tested = best.clean
    if clean == tested:
        return "No test image has the bytes or pixels of a training image."
    if not clean:
        return "Every test image is also a training image: no accuracy here means anything."
    return (
        f"Without the {tested - clean:,} test images that are also training images, the same row "
        f"has {cell.clean_text} % on the {clean:,} that are left: trust this figure."
    )


def _chance(opened: Opened) -> str:
    labels = opened.dataset.manifest.labels[opened.split.test]
    share = np.bincount(labels).max() / len(labels)
    name = opened.dataset.manifest.classes[int(np.bincount(labels).argmax())]
    return f"Always answering {name} would be right on {percent(float(share))}."


def _regions(survey: Survey) -> Iterator[str]:
    total, fallbacks = len(survey.areas) + len(survey.fallbacks), len(survey.fallbacks)
    if survey.areas:
        middle = percent(float(np.median(list(survey.areas.values()))))
        whole = (
            f"{fallbacks:,} of {total:,} images have no region and are seen whole."
            if fallbacks
            else "Every image has one."
        )
        yield f"Half of the regions cover less than {middle} of the image. {whole}"
    if survey.out_of_sight:
        yield (
            f"Of {survey.out_of_sight:,} regions the encoder saw less than half: they lie at an "
            "end that its cropping cuts off."
        )
    if survey.agreement:
        mean = float(np.mean(list(survey.agreement.values())))
        sample = ", a sample" if survey.sampled else ""
        yield (
            f"Regions overlap the annotations by {mean:.2f} on average (IoU, 1 is perfect), over "
            f"{len(survey.agreement):,} annotated images{sample}."
        )


def _warnings(opened: Opened, unread: Mapping[str, str]) -> Iterator[str]:
    yield from _drawings(opened)
    found = opened.measured.found
    yield from _leaks(found)
    unknown = patients_warning(opened.dataset.manifest)
    if unknown:
        yield f"{unknown[0].upper()}{unknown[1:]}."
    every = {**opened.dataset.problems, **unread}
    refused = {path: why for path, why in every.items() if why.startswith(NOT_MEDICAL)}
    problems = {path: why for path, why in every.items() if path not in refused}
    if refused:
        yield (
            f"{len(refused):,} files look like no medical image to the gate and are left out: "
            f"{_some(refused)}."
        )
    if problems:
        end = "cannot be read and"
        files = counted(len(problems), f"file {end} is", f"files {end} are")
        yield f"{files} left out: {_some(problems)}."
    yield from _rows(opened)
    if not opened.here:
        yield (
            "The images are not on this machine: galleries, thumbnails and pictures of mistakes "
            "are left out. With them: medfocus report --data path/to/images."
        )
    if opened.lacking:
        yield f"The pictures show no regions: {opened.lacking}"
    if opened.measured.notes:
        yield "Without the images, the audit compares pixels only as far as they were embedded."


def _drawings(opened: Opened) -> Iterator[str]:
    """Of phantoms, that they are some, and that lite-clip knows such drawings and their words."""
    context = opened.context
    if not ((context.data / SETTINGS).is_file() or context.dataset.startswith("phantom-")):
        return
    learned = (
        " The encoder lite-clip was trained on such drawings and their words, so that rows that "
        "read class texts are flattered."
        if opened.config.encoder.name == "lite-clip"
        else ""
    )
    yield f"These images are phantoms: drawings, not patients.{learned}"


def _leaks(found: Audit) -> Iterator[str]:
    tested = sum(found.balance.get("test", {}).values())
    if found.leaked:
        yield (
            f"{found.leaked:,} of {tested:,} test images are also among the training images, by "
            "bytes or pixels: the accuracy on all of them is flattered. Read the clean rows."
        )
    near = {one.kind: one for one in found.findings}
    for kind, what in (("perceptual", "by perceptual hash"), ("embedding", "by embedding")):
        if kind in near and near[kind].test_images:
            yield (
                f"{near[kind].test_images:,} of {tested:,} test images look nearly like a "
                f"training image, {what}: see the pairs below."
            )
    two = sum(one.across_labels for one in found.findings if one.kind in {"bytes", "pixels"})
    if two:
        pairs = counted(two, "pair of the same picture has", "pairs of the same picture have")
        yield f"{pairs} two labels: one of each pair is wrong."
    if found.patients:
        names = _some(dict.fromkeys(found.patients, ""))
        patients = counted(len(found.patients), "patient is", "patients are")
        yield f"{patients} on both sides of the split: {names}."
    if found.repeated:
        files = sum(map(len, found.repeated))
        equal = counted(files, "training file is", "training files are")
        yield f"{equal} byte-equal to another training file."


def _rows(opened: Opened) -> Iterator[str]:
    rows = opened.rows
    lacking, unfinished = rows.lacking(), rows.unfinished()
    if lacking:
        yield (
            f"{counted(len(lacking), 'row')} did not run for want of weights: {_some(lacking)}. "
            "What to fetch: medfocus models list."
        )
    if unfinished:
        names = _some({f"{label} ({done})": "" for label, done in unfinished.items()})
        yield f"{counted(len(unfinished), 'row is', 'rows are')} unfinished: {names}."
    if rows.left_out:
        yield (
            f"{rows.left_out} more rows of reproduce were not asked for: make reproduce "
            f"DATASET={opened.context.dataset}."
        )
    if any(rows.cell(row).runs == 1 for row in rows.ranked):
        yield "Some rows have one seed only: their spread is not known."


def _figures(opened: Opened) -> dict[str, str]:
    rows, best = opened.rows, opened.rows.ranked[0]
    cell = rows.cell(best)
    figures = {"best accuracy": _of(cell)}
    clean, tested = best.clean
    figures["without leaks"] = f"{cell.clean_text} %" if clean else "none"
    if clean == tested:
        figures["without leaks"] = "the same"
    reference, ours = rows.reference(), rows.ours()
    if ours is not None and ours.label != best.label:
        figures["MedFocusCLIP"] = _of(rows.cell(ours))
    if reference is not None and reference.label != best.label:
        figures["reference"] = _of(rows.cell(reference))
    figures["images"] = f"{len(opened.split.train) + len(opened.split.test):,}"
    return figures


def _amount(budget: Budget) -> str:
    kind, amount = budget
    if (kind, amount) == ("fraction", 100):
        return "all training images"
    return f"{heading(budget)}{' of the training images' if kind == 'fraction' else ' a class'}"


def _of(cell: TableCell) -> str:
    interval = f" ({cell.test_text})" if cell.test_text else ""
    return f"{100 * cell.mean:.1f} ± {100 * cell.spread:.1f} %{interval}"


def _some(names: Mapping[str, str]) -> str:
    shown = "; ".join(list(names)[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown
