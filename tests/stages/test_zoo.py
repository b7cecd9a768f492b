"""The list of models: its facts, how it looks, and that the README has it."""

import re
from pathlib import Path

from medfocus_pipeline.commands.model_names import config_of, known
from medfocus_pipeline.encoders import ENCODERS
from medfocus_pipeline.segmenters import SEGMENTERS
from tests.stages.conftest import Medfocus

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_the_list_as_it_is_printed(medfocus: Medfocus) -> None:
    [listed] = re.findall(
        r"<summary>medfocus models list</summary>\n\n```\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert _facts(listed) == _facts(medfocus("models", "list").out)


def _facts(text: str) -> list[str]:
    """Without what depends on the machine, and where lines break."""
    flat = " ".join(text.split())
    return re.sub(r"(not )?here( \([^)]*\))?", "", flat).split("; ")


def test_the_list_fits_a_page_and_names_what_is_gated(medfocus: Medfocus) -> None:
    lines = medfocus("models", "list").out.splitlines()
    assert max(map(len, lines)) <= 100
    [place] = [n for n, line in enumerate(lines) if line.strip() == "google/medsiglip-448"]
    assert "gated" in " ".join(lines[place : place + 4])
    assert "encoder package.module:Factory" in " ".join(lines)  # which rich would make a picture


def test_every_encoder_of_the_list_says_what_a_user_must_know() -> None:
    for entry in ENCODERS.values():
        for model in entry.models:
            assert model.dim
            assert model.side
            assert model.pixels
            assert model.licence
    for segmenter in SEGMENTERS.values():
        assert all(model.licence for model in segmenter.models)
    ids = [
        table[type(m.config)].identify(m.config)
        for table in (ENCODERS, SEGMENTERS)
        for m in known()
        if type(m.config) in table
    ]
    hub = [one for one in ids if "/" in one]
    assert {config_of(one).name for one in hub} >= {"clip", "open_clip", "vision", "timm", "sam2"}


def test_a_family_loads_any_id_that_is_asked_of_it() -> None:
    assert config_of("facebook/dinov2-large", family="vision").name == "vision"
    assert config_of("laion/CLIP-ViT-B-32", "abc", family="open_clip").revision == "abc"
