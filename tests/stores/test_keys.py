import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.stores.keys import Recipe, canonical_json, digest
from tests.stores.conftest import recipe

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_key_does_not_depend_on_the_order_of_entries(value: dict[str, object]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


@given(json_values, json_values)
def test_equal_digests_mean_equal_spelling(a: object, b: object) -> None:
    assert (digest(a) == digest(b)) == (canonical_json(a) == canonical_json(b))


def test_not_a_number_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"a": float("nan")})


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "embeddings"},
        {"version": 2},
        {"config": {"a": 2}},
        {"model": {"id": "fake", "files": {"w": "1"}}},
        {"upstream": "u"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_changes_the_numbers_changes_the_key(change: dict[str, object]) -> None:
    assert recipe(**change).key != recipe().key


def test_key_is_pinned() -> None:
    pinned = Recipe("masks", 1, {"b": [1, 2.5], "a": "é"}, {"id": "m", "files": {}}, None)
    assert pinned.key == "9a1dee090b749b34e8442e829fc95343d4bba692bd16fee85479e99c1ac50a49"


def test_folder_is_readable_and_safe() -> None:
    assert recipe().folder("openai/clip ViT-B/16") == f"openai-clip-ViT-B-16-{recipe().key[:8]}"
