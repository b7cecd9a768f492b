"""What may spoil a comparison: pictures on both sides of the split, or under two labels."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.series import Series, find_series
from medfocus_pipeline.datasets.similarity import (
    HASH_BITS,
    Fingerprints,
    cosine_blocks,
    equal_blocks,
    groups,
    hamming_blocks,
)
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.twins import Files, Finding, collect, list_files
from medfocus_pipeline.types import JSON, FloatArray

_EXAMPLES = 3

PAIRS = pa.schema(
    [
        ("kind", pa.string()),
        ("first_image_id", pa.string()),
        ("second_image_id", pa.string()),
        ("first_path", pa.string()),
        ("second_path", pa.string()),
        ("first_split", pa.string()),
        ("second_split", pa.string()),
        ("first_label", pa.string()),
        ("second_label", pa.string()),
        ("distance", pa.float64()),
    ]
)
"""One row a pair of files. A split is ``train`` or ``test``, empty if the data set cannot be
split; across the split the training image is the first. ``distance`` is 0 for bytes and pixels,
the number of bits for perceptual, 1 - cosine for embedding. A pair of equal bytes is not listed
again under pixels, nor one of equal pixels under the last two; these two overlap."""


class AuditConfig(Frozen):
    """What counts as nearly the same picture: a hint to look, not a proof.

    The defaults were set on phantoms: copies that are compressed (JPEG 50), halved or enlarged
    differ by 4 bits at most, different phantoms by 8 or more; different phantoms have a cosine
    below 0.93 in lite-clip. Encoders differ in how close they put all images of one kind.

    Attributes:
        distance: greatest number of bits, of 64, by which two perceptual hashes differ; nearly
            always even, as half of a hash's bits are set.
        cosine: least cosine of two embeddings of the whole picture.
    """

    distance: int = Field(4, ge=0, le=HASH_BITS // 2)
    cosine: float = Field(0.99, gt=0, le=1)


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What was found in one data set.

    Attributes:
        dataset: its name.
        config: the thresholds.
        split: ``official``, ``drawn``, or why there is none.
        sides: ``train``, ``test`` or empty, for each row of the manifest.
        findings: one for each kind that could be looked for.
        leaked: test files whose bytes or pixels are also in training: those that are not clean.
        repeated: groups of byte-equal training files, by path.
        patients: those with images on both sides.
        balance: side -> class -> number of files.
        unreadable: path -> problem.
        not_medical: path -> score of the files that the gate takes for no medical images, the
            lowest first; None where no gate looked.
        series: neighbours by name that look alike, among the files whose patient is not known.
    """

    dataset: str
    config: AuditConfig
    split: str
    sides: tuple[str, ...]
    findings: tuple[Finding, ...]
    leaked: int
    repeated: tuple[tuple[str, ...], ...]
    patients: tuple[str, ...]
    balance: Mapping[str, Mapping[str, int]]
    unreadable: Mapping[str, str]
    not_medical: Mapping[str, float] | None = None
    series: Series | None = None


def audit(
    manifest: Manifest,
    split: Split | str,
    fingerprints: Mapping[str, Fingerprints],
    *,
    embeddings: Mapping[str, FloatArray],
    config: AuditConfig,
) -> Audit:
    """Compare every usable file with every other one.

    Args:
        split: of the manifest, or why there is none.
        fingerprints: image id -> hashes; an image without is compared by its bytes only.
        embeddings: image id -> ``(d,) float32`` of the whole picture, L2-normalised; empty
            leaves this kind out.
    """
    files = list_files(manifest, split, fingerprints)
    paths = manifest.paths
    train = np.flatnonzero(files.sides == "train").tolist()
    repeated = [
        tuple(paths[files.rows[train[n]]] for n in group)
        for group in groups([files.ids[n] for n in train])
    ]
    sides = np.full(len(manifest), "", dtype=object)
    sides[files.rows] = files.sides
    return Audit(
        dataset=manifest.name,
        config=config,
        split=split if isinstance(split, str) else "official" if split.official else "drawn",
        sides=tuple(sides.tolist()),
        findings=tuple(_findings(files, embeddings, config)),
        leaked=int(files.trained_on[files.sides == "test"].sum()),
        repeated=tuple(repeated),
        patients=_patients(manifest, files),
        balance=_balance(manifest, files),
        unreadable=dict(manifest.problems),
        not_medical=manifest.refused if manifest.gate else None,
        series=_series(manifest, files),
    )


def pair_table(result: Audit, manifest: Manifest) -> pa.Table:
    """The listed pairs of all kinds, as `PAIRS` describes."""
    ids, paths, labels = manifest.image_ids, manifest.paths, manifest.strings("class_name")
    rows = []
    for finding in result.findings:
        for pair in zip(*(part.tolist() for part in finding.listed), strict=True):
            first, second, distance = pair
            if (result.sides[first], result.sides[second]) == ("test", "train"):
                first, second = second, first
            columns = (ids, paths, result.sides, labels)
            values = [column[row] for column in columns for row in (first, second)]
            rows.append([finding.kind, *values, distance])
    columns_ = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in PAIRS]
    return pa.table(columns_, schema=PAIRS)


def summary(result: Audit, pairs: pa.Table) -> JSON:
    """The audit as JSON: thresholds, counts, and a few examples of each kind.

    Args:
        pairs: of `pair_table`.
    """
    kinds = pairs["kind"].to_pylist()
    described = []
    for one in result.findings:
        start = kinds.index(one.kind) if one.kind in kinds else 0
        shown = min(_EXAMPLES, len(one.listed[0]))
        described.append(
            {
                "kind": one.kind,
                "compared": one.compared,
                "pairs": one.pairs,
                "listed": len(one.listed[0]),
                "across_splits": one.across_splits,
                "across_labels": one.across_labels,
                "test_images": one.test_images,
                "examples": pairs.slice(start, shown).to_pylist(),
            }
        )
    return {
        "dataset": result.dataset,
        "thresholds": result.config.model_dump(mode="json"),
        "split": result.split,
        "leaked_test_images": result.leaked,
        "findings": described,
        "repeated_training_files": [list(group) for group in result.repeated],
        "patients_on_both_sides": list(result.patients),
        "balance": {side: dict(classes) for side, classes in result.balance.items()},
        "unreadable": dict(result.unreadable),
        "series": [list(run) for run in result.series.runs] if result.series else [],
        "not_medical": None if result.not_medical is None else dict(result.not_medical),
    }


def patients_warning(manifest: Manifest) -> str:
    """One line if it is not known which images are of one patient; empty if it is of all."""
    groups = manifest.strings("group")
    unknown = sum(not groups[row] for row in manifest.usable)
    if not unknown:
        return ""
    return (
        f"patients unknown for {unknown:,} of {len(manifest.usable):,} images: images of one "
        "patient may be on both sides of the split, and accuracy may be flattered. A column "
        "group in a CSV, or patient in the card, names them"
    )


def leak_warning(dataset: str, *, leaked: int, tested: int) -> str:
    """One line for whoever reads accuracies; empty without a leak.

    Args:
        leaked: test images whose bytes or pixels are also among the training images.
        tested: test images.
    """
    if not leaked:
        return ""
    return (
        f"{leaked:,} of {tested:,} test images are also among the training images: trust the "
        f"accuracy on the clean ones. Which they are: medfocus audit {dataset}"
    )


def _findings(
    files: Files, embeddings: Mapping[str, FloatArray], config: AuditConfig
) -> Iterator[Finding]:
    everyone = np.arange(len(files.rows))
    yield collect("bytes", files, everyone, equal_blocks(files.ids))
    decoded = np.array([n for n in everyone if files.hashes[n]], dtype=np.int64)
    equal = equal_blocks([files.pixels[n] for n in decoded])
    yield collect("pixels", files, decoded, equal, known=files.ids)
    hashed, hashes = files.perceptual
    if len(hashed):
        near = hamming_blocks(hashes, limit=config.distance)
        yield collect("perceptual", files, hashed, near, known=files.pixels)
    embedded = [n for n in everyone if files.ids[n] in embeddings]
    if embedded:
        features = np.stack([embeddings[files.ids[n]] for n in embedded])
        near = cosine_blocks(features, limit=config.cosine)
        yield collect("embedding", files, np.array(embedded), near, known=files.pixels)


def _series(manifest: Manifest, files: Files) -> Series | None:
    patients, paths = manifest.strings("group"), manifest.paths
    hashes: dict[str, int] = {}
    seen = set()
    for row, pixels, one in zip(files.rows.tolist(), files.pixels, files.hashes, strict=True):
        known = patients[row] or pixels in seen
        if one and one.perceptual is not None and not known:
            hashes[paths[row]] = one.perceptual
        seen.add(pixels)
    return find_series(hashes)


def _patients(manifest: Manifest, files: Files) -> tuple[str, ...]:
    names = np.array(manifest.strings("group"))[files.rows]
    trained, tested = (set(names[files.sides == side].tolist()) for side in ("train", "test"))
    return tuple(sorted((trained & tested) - {""}))


def _balance(manifest: Manifest, files: Files) -> dict[str, dict[str, int]]:
    counts = Counter(zip(files.sides.tolist(), files.labels.tolist(), strict=True))
    return {
        side: {name: counts[side, label] for label, name in enumerate(manifest.classes)}
        for side in sorted(set(files.sides.tolist()), reverse=True)
    }
