from medfocus_pipeline.classifier.model_card import Measured, Score, card_text
from medfocus_pipeline.datasets.card import Card, ClassCard
from medfocus_pipeline.evaluation.diagnostics import Recall
from medfocus_pipeline.evaluation.intervals import Interval
from medfocus_pipeline.evaluation.metrics import NAN
from tests.classifier.packs import pack

ORIGIN = Card(
    title="Colours",
    modality="photograph",
    source="a shelf",
    licence="CC0 1.0",
    classes=(ClassCard(name="red", prompt="red"),),
)
MEASURED = Measured(
    seeds=3,
    test_images=3,
    clean_images=2,
    scores={
        "accuracy": Score(0.75, 0.7, Interval(0.6, 1.2)),
        "accuracy_clean": Score(0.5, 0.5, None),
        "auroc": Score(NAN, NAN, None),
    },
    recalls=[Recall(0.9, 0.05, 2), Recall(0.4, 0.0, 1)],
    tested=Interval(0.35, 0.93),
    by_patient=True,
)


def test_the_card_says_what_it_is_what_was_measured_and_what_it_is_not_for() -> None:
    text = card_text(pack().config, ORIGIN, MEASURED)
    assert "# Colours: linear on segmented+segmented.roi_pooled" in text
    assert "Not a medical device" in text
    assert "12 (100 % of them, seed 0)" in text
    assert "3 test images, 2 of them clean" in text
    assert "| accuracy | 0.750 | 0.700 | 0.600 to 1.000 |" in text
    assert "an accuracy of 0.350 to 0.930 open (95 %, bootstrap over patients)" in text
    assert "| AUROC | - | - | - |" in text
    assert "| not red | 1 | 0.400 | 0.000 |" in text
    assert "it misses not red most" in text
    assert "CC0 1.0" in text
    assert f"weights `{'0' * 64}`" in text


def test_names_from_a_data_set_cannot_write_markup() -> None:
    config = pack().config.model_copy(
        update={"title": "<script>alert(1)</script>", "classes": ("a|b", "*c*\n# d")}
    )
    text = card_text(config, ORIGIN, MEASURED)
    assert "<script>" not in text
    assert "| a\\|b | 2 |" in text
    assert "\n# d" not in text
