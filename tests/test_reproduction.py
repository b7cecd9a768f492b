"""The rows of ``medfocus reproduce``."""

from pathlib import Path

import pytest

from medfocus_pipeline.datasets.card import find_card
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.reproduction import PAPER, REFERENCE, chosen, rows
from medfocus_pipeline.types import FeaturePart

KNOWN = rows(Path("adapter.safetensors"))


def test_every_method_of_the_papers_tables_is_a_row() -> None:
    methods = [row.method for row in KNOWN if row.group == PAPER]
    card = find_card("brain")
    assert set(methods) == set(card.paper)


def test_names_and_labels_are_distinct() -> None:
    assert len({row.name for row in KNOWN}) == len(KNOWN)
    assert len({row.label for row in KNOWN}) == len(KNOWN)


def test_the_reference_is_linear_on_original() -> None:
    [reference] = chosen(KNOWN, [REFERENCE])
    assert (reference.head.name, reference.focus) == ("linear", (FeaturePart("original"),))


def test_rows_are_chosen_by_name_in_the_tables_order() -> None:
    assert [row.name for row in chosen(KNOWN, ["mlp", "clip"])] == ["clip", "mlp"]


def test_an_unknown_row_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no row foo\. Known rows: .*clip.*medfocusclip"):
        chosen(KNOWN, ["clip", "foo"])
