"""The seed's report, held against scikit-learn's own; which images choose the threshold."""

import time

import numpy as np
import pytest

from medfocus_pipeline.config import (
    DeepSvddConfig,
    GateConfig,
    LinearConfig,
    MahalanobisConfig,
    OcNnConfig,
)
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.evaluation.gate_methods import (
    Method,
    linear_method,
    one_class_method,
    zero_shot_method,
)
from medfocus_pipeline.evaluation.gate_reports import (
    SIDES,
    GateData,
    best,
    compare,
    split_report,
)
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.report.content import Gallery
from medfocus_pipeline.report.gate import GateReport, gate_csv, gate_markdown


def made(count: int = 60, *, validation: bool = True, shift: float = 1.5) -> GateData:
    """Two clouds; a third of the images each to train, to choose on and to test."""
    rng = np.random.default_rng(0)
    medical = np.arange(count) % 2 == 0
    rows = rng.normal(size=(count, 1, 6)) + shift * medical[:, None, None] + 1
    thirds = np.arange(count) * 3 // count
    names = ("train", "validation", "test")
    splits = {name: np.flatnonzero(thirds == n) for n, name in enumerate(names)}
    if not validation:
        splits["train"] = np.concatenate([splits["train"], splits.pop("validation")])
    return GateData(rows.astype(np.float32), medical, splits)


def run(data: GateData, *methods: Method):  # type: ignore[no-untyped-def]
    return compare(data, methods, seed=0, on_method=lambda: None)


def test_a_report_is_scikit_learns_classification_report() -> None:
    from sklearn.metrics import classification_report

    rng = np.random.default_rng(3)
    medical = rng.random(200) < 0.3
    scores = rng.normal(size=200) + medical
    report = split_report(scores, medical, 0.4)
    truth, said = (np.where(side, *SIDES) for side in (medical, scores > 0.4))
    theirs = classification_report(truth, said, output_dict=True)
    assert report.accuracy == pytest.approx(theirs["accuracy"])
    named = {**dict(zip(SIDES, report.sides, strict=True))}
    named |= {"macro avg": report.macro, "weighted avg": report.weighted}
    for name, own in named.items():
        row = theirs[name]
        found = (own.precision, own.recall, own.f1, own.support)
        expected = (row["precision"], row["recall"], row["f1-score"], row["support"])
        assert found == pytest.approx(expected)


def test_only_validation_images_choose_the_threshold() -> None:
    data = made()
    [first] = run(data, one_class_method(MahalanobisConfig()))
    features = data.features.copy()
    features[data.splits["test"]] *= -3
    changed = GateData(features, data.medical, data.splits)
    [again] = run(changed, one_class_method(MahalanobisConfig()))
    assert again.threshold == first.threshold
    assert again.splits["test"].auroc != first.splits["test"].auroc
    features = data.features.copy()
    features[data.splits["validation"]] += 1
    [moved] = run(GateData(features, data.medical, data.splits), linear_method(LinearConfig()))
    [unmoved] = run(data, linear_method(LinearConfig()))
    assert moved.threshold != unmoved.threshold


def test_without_a_validation_split_a_fold_of_the_training_images_chooses() -> None:
    data = made(validation=False)
    seen = []

    def fit(features, medical, groups, rng):  # type: ignore[no-untyped-def]
        seen.append((len(features), int(medical.sum())))
        return lambda rows: rows.sum(axis=(1, 2)).astype(np.float64)

    [report] = run(data, Method("sum", "both sides", fit))
    assert seen == [(32, 16)]  # of 40, a fifth is held out, half of each side
    assert report.chosen_on == "a fold held out of the training images"
    assert list(report.splits) == ["train", "test"]


def test_one_class_methods_see_medical_images_alone() -> None:
    data = made()
    features = data.features.copy()
    others = data.splits["train"][~data.medical[data.splits["train"]]]
    features[others] = 99
    quick = (DeepSvddConfig(epochs=2), OcNnConfig(epochs=2))
    rest = [one for one in GateConfig().one_class if type(one) not in map(type, quick)]
    for config in (*rest, *quick):
        [first] = run(data, one_class_method(config))
        [again] = run(GateData(features, data.medical, data.splits), one_class_method(config))
        test = data.splits["test"]
        np.testing.assert_allclose(again.scores[test], first.scores[test], err_msg=config.name)


def test_a_split_with_one_side_is_refused() -> None:
    data = made()
    splits = {**data.splits, "validation": np.flatnonzero(data.medical)[:5]}
    with pytest.raises(DataError, match="split validation has 5 medical images of 5"):
        run(GateData(data.features, data.medical, splits), linear_method(LinearConfig()))


def test_the_best_method_is_not_the_one_that_is_best_on_test_images() -> None:
    def scored(name: str, right: str) -> Method:
        def fit(features, medical, groups, rng):  # type: ignore[no-untyped-def]
            scores = np.where(data.medical, 1.0, 0.0)
            wrong = data.splits["test" if right == "validation" else "validation"]
            scores[wrong] = 1 - scores[wrong]
            return lambda rows: scores

        return Method(name, "nothing", fit)

    data = made()
    reports = run(data, scored("lucky", "test"), scored("steady", "validation"))
    assert best(reports).name == "steady"


def test_tables_name_every_method_split_and_average() -> None:
    reports = run(made(), linear_method(LinearConfig()), one_class_method(MahalanobisConfig()))
    errors = Gallery("errors", "none", [])
    report = GateReport("Pets", reports, reports[0], ["a note"], errors)
    lines = gate_csv(report).splitlines()
    assert len(lines) == 1 + 2 * 3 * 4
    assert lines[1].startswith("linear probe,both sides,train,medical,")
    text = gate_markdown(report)
    for split in ("train", "validation", "test"):
        assert f"#### {split}: precision / recall / F1, %" in text
    assert "| Mahalanobis | medical images |" in text


def test_ten_thousand_embeddings_are_scored_in_a_tenth_of_what_a_hundred_thousand_may_take() -> (
    None
):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10_000, 1, 512), np.float32)
    prompts = GatePrompts()
    texts = rng.normal(size=(len(prompts.phrases), 512)).astype(np.float32)
    gate = ZeroShot.of(texts, 0.01, prompts, "best")
    scorer = zero_shot_method(gate).fit(rows[:0], np.empty(0, np.bool_), None, rng)
    started = time.perf_counter()
    assert scorer(rows).shape == (10_000,)
    assert time.perf_counter() - started < 1
