"""What a study's file may say, and which pairs are asked for."""

from pathlib import Path

import pytest

from medfocus_pipeline.datasets.study_card import chosen_pairs, find_study, known_studies
from medfocus_pipeline.errors import ConfigError

GOOD = """
classes:
  normal: NORMAL|healthy
  pneumonia: [PNEUMONIA, viral]
domains:
  a:
  b: { dataset: chest, data: x.csv, domain: north }
  c: folder
"""


def _write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_study_names_domains_and_maps_their_classes(tmp_path: Path) -> None:
    name, path, card = find_study(_write(tmp_path, GOOD))
    assert (name, path) == ("mine", tmp_path / "mine.yaml")
    assert [card.dataset_of(domain) for domain in card.domains] == ["a", "chest", "c"]
    assert card.domains["c"].data == Path("folder")
    assert card.class_index == {
        **dict.fromkeys(("normal", "healthy"), 0),
        **dict.fromkeys(("pneumonia", "viral"), 1),
    }


def test_packaged_studies_are_known_by_name() -> None:
    assert known_studies() == ["phantom-pneumonia", "pneumonia"]
    for name in known_studies():
        assert len(find_study(name)[2].domains) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  a:\n", ""), None),
        (
            ("  a:\n  b: { dataset: chest, data: x.csv, domain: north }\n", ""),
            "has one domain, 'c'",
        ),
        (("viral", "Healthy"), "'normal' and 'pneumonia' both stand for 'healthy'"),
        (("  pneumonia: [PNEUMONIA, viral]\n", ""), "expected two classes or more, got normal"),
        (("  a:", "  others:"), "expected a name without"),
        (("dataset: chest", "set: chest"), "line 7: domains.b.set: is not a known key"),
    ],
)
def test_a_wrong_study_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], message: str | None
) -> None:
    place = _write(tmp_path, GOOD.replace(*change))
    if message is None:
        assert find_study(place)
        return
    with pytest.raises(ConfigError, match=message):
        find_study(place)


def test_an_unknown_study_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean pneumonia.*phantom-pneumonia, pneumonia"):
        find_study("pnuemonia")


def test_pairs_are_every_source_with_every_other_target(tmp_path: Path) -> None:
    _, _, card = find_study(_write(tmp_path, GOOD))

    def asked(source: list[str] | None, target: list[str] | None) -> list[str]:
        found = chosen_pairs(card, source, target)
        return [f"{'+'.join(source)}>{target}" for source, target in found]

    assert asked(None, None) == ["a>b", "a>c", "b>a", "b>c", "c>a", "c>b"]
    assert asked(["a"], ["a", "c"]) == ["a>c"]
    assert asked(["others", "b"], ["a"]) == ["b+c>a", "b>a"]
    assert asked(["a+b"], None) == ["a+b>c"]
    with pytest.raises(ConfigError, match=r"target a is also the source.*a, b, c"):
        asked(["a"], ["a"])
    with pytest.raises(ConfigError, match=r"no domain 'd'.*a, b, c"):
        asked(["d"], None)
