from collections.abc import Sequence

import numpy as np
import pytest

from medfocus_pipeline.datasets import twins
from medfocus_pipeline.datasets.audit import (
    PAIRS,
    Audit,
    AuditConfig,
    audit,
    leak_warning,
    pair_table,
    summary,
)
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.datasets.similarity import Fingerprints
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.splits import test_split as split_of
from medfocus_pipeline.datasets.twins import list_files, seen_elsewhere
from medfocus_pipeline.types import JSON, FloatArray

CLASSES = ("cat", "dog")


def manifest(*files: tuple[str, str, int], groups: Sequence[str] = ()) -> Manifest:
    """Files by (image id, split, class); a path is the number of the file."""
    rows = [
        (id_, f"{n}.png", split, label, CLASSES[label], group, "", "", 8, 8, "RGB", 1, 1, "")
        for n, ((id_, split, label), group) in enumerate(
            zip(files, groups or [""] * len(files), strict=True)
        )
    ]
    return build(rows, name="pets", classes=CLASSES, from_card=True)


FILES = (
    ("a", "train", 0),
    ("b", "train", 1),
    ("a", "test", 0),  # the bytes of 0
    ("c", "test", 1),  # the pixels of 1
    ("d", "train", 0),  # near 5
    ("e", "test", 1),
    ("d", "train", 0),  # the bytes of 4
)
HASHES = {
    "a": Fingerprints("pa", 0),
    "b": Fingerprints("pb", 0xFFFF),
    "c": Fingerprints("pb", 0xFFFF),
    "d": Fingerprints("pd", 0xFF00000000),
    "e": Fingerprints("pe", 0xFF00000007),
}


def look(
    own: Manifest,
    *,
    hashes: dict[str, Fingerprints] | None = None,
    embeddings: dict[str, FloatArray] | None = None,
    config: AuditConfig | None = None,
) -> tuple[Audit, list[JSON]]:
    found = audit(
        own,
        split_of(own, test_share=0.3, seed=0),
        HASHES if hashes is None else hashes,
        embeddings=embeddings or {},
        config=config or AuditConfig(),
    )
    return found, pair_table(found, own).to_pylist()


def paths(rows: Sequence[JSON], kind: str) -> list[tuple[str, str]]:
    return [(row["first_path"], row["second_path"]) for row in rows if row["kind"] == kind]


def test_each_pair_stands_under_its_strictest_kind_the_training_image_first() -> None:
    found, rows = look(manifest(*FILES))
    assert paths(rows, "bytes") == [("0.png", "2.png"), ("4.png", "6.png")]
    assert paths(rows, "pixels") == [("1.png", "3.png")]
    assert sorted(paths(rows, "perceptual")) == [("4.png", "5.png"), ("6.png", "5.png")]
    assert [one.kind for one in found.findings] == ["bytes", "pixels", "perceptual"]
    near = next(row for row in rows if row["kind"] == "perceptual")
    assert (near["first_split"], near["second_split"]) == ("train", "test")
    assert (near["first_label"], near["second_label"]) == ("cat", "dog")
    assert near["distance"] == 3
    assert (near["first_image_id"], near["second_image_id"]) == ("d", "e")


def test_counts_are_of_pairs_and_of_test_images() -> None:
    found, _ = look(manifest(*FILES))
    counts = {
        one.kind: (one.compared, one.pairs, one.across_splits, one.across_labels, one.test_images)
        for one in found.findings
    }
    assert counts == {
        "bytes": (7, 2, 1, 0, 1),
        "pixels": (7, 1, 1, 0, 1),
        "perceptual": (7, 2, 2, 2, 1),
    }
    assert found.leaked == 2
    assert found.repeated == (("4.png", "6.png"),)
    assert found.split == "official"


def test_the_threshold_decides_what_is_near() -> None:
    found, _ = look(manifest(*FILES), config=AuditConfig(distance=2))
    assert found.findings[2].pairs == 0


def test_embeddings_are_compared_by_their_cosine() -> None:
    angle = np.arccos(0.995)
    vectors = {
        "a": np.float32([1, 0]),
        "b": np.float32([0, 1]),
        "c": np.float32([0, 1]),  # equal pixels: not said again
        "e": np.float32([np.cos(angle), np.sin(angle)]),
    }
    found, rows = look(manifest(*FILES), embeddings=vectors)
    assert found.findings[-1].compared == 5
    assert sorted(paths(rows, "embedding")) == [("0.png", "5.png"), ("2.png", "5.png")]
    distances = [row["distance"] for row in rows if row["kind"] == "embedding"]
    assert distances == pytest.approx([0.005, 0.005], abs=1e-6)
    strict, _ = look(manifest(*FILES), embeddings=vectors, config=AuditConfig(cosine=0.999))
    assert strict.findings[-1].pairs == 0


def test_an_image_that_was_not_decoded_is_compared_by_its_bytes() -> None:
    found, rows = look(manifest(*FILES), hashes={})
    assert len(paths(rows, "bytes")) == 2
    assert [one.compared for one in found.findings] == [7, 0]
    assert found.leaked == 1


def test_pairs_that_matter_most_are_listed_first_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twins, "MAX_PAIRS", 3)
    same = manifest(*[("a", "train", 0)] * 6, ("a", "test", 0), ("a", "test", 1), ("b", "train", 1))
    found, rows = look(same)
    [first, *_] = found.findings
    assert (first.pairs, first.across_splits, first.across_labels) == (28, 12, 7)
    assert [(row["second_split"], row["second_label"]) for row in rows] == [("test", "dog")] * 3
    assert first.test_images == found.leaked == 2


def test_patients_and_classes_are_counted_by_side() -> None:
    own = manifest(*FILES, groups=("p1", "p2", "p1", "", "", "p3", "p3"))
    found, _ = look(own)
    assert found.patients == ("p1", "p3")
    assert found.balance == {"train": {"cat": 3, "dog": 1}, "test": {"cat": 1, "dog": 2}}


def test_files_with_a_problem_are_named_and_left_out() -> None:
    own = manifest(*FILES).with_problems({"c": "is damaged"})
    found, rows = look(own)
    assert found.unreadable == {"3.png": "is damaged"}
    assert found.sides[3] == ""
    assert paths(rows, "pixels") == []


def test_without_a_split_nothing_lies_across_it() -> None:
    found = audit(manifest(*FILES), "no test image", HASHES, embeddings={}, config=AuditConfig())
    assert found.split == "no test image"
    assert found.leaked == 0
    assert [one.pairs for one in found.findings] == [2, 1, 2]
    assert not any(one.across_splits for one in found.findings)
    assert found.balance == {"": {"cat": 4, "dog": 3}}


def test_a_clean_data_set_has_an_empty_table_of_the_same_columns() -> None:
    own = manifest(("a", "train", 0), ("b", "train", 1), ("c", "test", 0))
    found = audit(
        own,
        Split(np.array([0, 1]), np.array([2]), official=False),
        {},
        embeddings={},
        config=AuditConfig(),
    )
    table = pair_table(found, own)
    assert table.schema.equals(PAIRS)
    assert table.num_rows == 0
    assert found.split == "drawn"


def test_the_summary_says_what_was_found_with_examples() -> None:
    own = manifest(*FILES)
    found, rows = look(own)
    described = summary(found, pair_table(found, own))
    assert described["thresholds"] == {"distance": 4, "cosine": 0.99}
    assert described["leaked_test_images"] == 2
    assert described["repeated_training_files"] == [["4.png", "6.png"]]
    near = described["findings"][2]
    assert (near["kind"], near["pairs"], near["listed"]) == ("perceptual", 2, 2)
    assert near["examples"] == [row for row in rows if row["kind"] == "perceptual"]


def test_a_leak_is_one_line_with_the_command_and_no_leak_is_none() -> None:
    text = leak_warning("brain", leaked=17, tested=1311)
    assert text.startswith("17 of 1,311 test images are also among the training images")
    assert "medfocus audit brain" in text
    assert leak_warning("brain", leaked=0, tested=1311) == ""


def test_a_test_image_that_is_nearly_one_of_another_domains_training_is_seen() -> None:
    files_ = manifest(
        ("a", "train", 0), ("b", "test", 0), ("c", "test", 0), ("a", "test", 1), ("d", "test", 1)
    )
    split = Split(np.array([0]), np.arange(1, 5), official=True)
    hashes = {"a": 0b1111, "b": 0b1110, "c": 0b1110, "d": 2**40 - 1}
    known = {name: Fingerprints(name, bits) for name, bits in hashes.items()}
    files = list_files(files_, split, known)
    # b is nearly a in its own domain, c in another; the second a is the same file anywhere.
    seen = seen_elsewhere(files, np.array([0, 0, 1, 1, 1]), distance=4)
    assert seen.tolist() == [False, False, True, True, False]
