"""Whatever stands in a card, study, profile, CSV or JSON: it is read, or refused by name."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medfocus_pipeline.datasets.card import Card, load_card
from medfocus_pipeline.datasets.listing import read_listing
from medfocus_pipeline.datasets.study_card import StudyCard, find_study
from medfocus_pipeline.errors import DamagedError, MedFocusError
from medfocus_pipeline.profiles import Profile, load_profile
from medfocus_pipeline.sealed import read_json, write_json

KEYS = sorted(
    {*Card.model_fields, *StudyCard.model_fields, *Profile.model_fields}
    | {"name", "prompt", "folders", "dataset", "data", "train", "test", "segmenter", "encoder"}
)

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists and mappings whose keys are often ones that mean something."""
    keys = st.sampled_from(KEYS) | st.text(max_size=4)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(keys, inner, min_size=1, max_size=5)
        ),
        max_leaves=15,
    )


RAW = st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8"))
YAML = RAW | nested(PLAIN).map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode())

READERS: dict[str, Callable[[Path], object]] = {
    "card.yaml": load_card,
    "study.yaml": lambda path: find_study(str(path)),
    "profile.yaml": lambda path: load_profile(str(path)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60)
@given(content=YAML)
@example(content=b"title: x\nclasses: {a: {prompt: [1]}}\n")
@example(content=b"? [a, b]\n: c\n")
@example(content=b"? {a: b}\n: c\n")
def test_any_yaml_is_read_or_refused(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    with contextlib.suppress(MedFocusError):
        READERS[name](path)


CELLS = st.text(max_size=5) | st.sampled_from(
    (
        *("path", "label", "split", "group", "Image Index", "Finding Labels", "a.png", "../a.png"),
        *("/a", "train", "val", "test", "synthetic", "", " ", "a|b", '"', "'", "é", "\0", "\ufeff"),
    )
)


@settings(max_examples=60)
@given(
    rows=st.lists(st.lists(CELLS, max_size=5), max_size=6),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    begins=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"path,label\n"]),
)
def test_any_csv_is_read_or_refused(
    folder: Path, rows: list[list[str]], separator: str, end: str, begins: bytes
) -> None:
    (folder / "a.png").write_bytes(b"x")
    path = folder / "images.csv"
    text = end.join(separator.join(row) for row in rows)
    path.write_bytes(begins + text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(MedFocusError):
        read_listing(path, None, root=folder, columns={})


@given(content=RAW | nested(PLAIN).map(lambda value: json.dumps(value, default=str).encode()))
def test_json_that_nobody_sealed_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "any.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        read_json(path, owner="test")


@given(value=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4))
def test_sealed_json_is_read_back_and_not_for_another_owner(
    folder: Path, value: dict[str, Any]
) -> None:
    path = folder / "sealed.json"
    path.unlink(missing_ok=True)
    write_json(path, value, owner="test")
    assert read_json(path, owner="test") == {
        name: one for name, one in value.items() if name != "sha256"
    }
    with pytest.raises(DamagedError):
        read_json(path, owner="other")
