"""What phantoms are called in prompts, and how well a dual encoder tells them apart by the cards'.

Classes are called in templates of our own. The cards' are not among them, so that a card's prompts
are new to the text tower when it is tested on them.
"""

from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.datasets.card import Card, find_card
from medfocus_pipeline.datasets.phantoms.phantom import CLASSES, KINDS, PICTURES, draw
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.vectors import class_means, normalise

_TEMPLATES = (
    "{finding}",
    "{modality}: {finding}",
    "{modality} and {finding}",
    "this is {finding}",
    "evidence of {finding}",
    "diagnosis of {finding}",
    "a picture of {finding}",
    "an example of {finding}, {modality}",
    "{finding}, as seen in {modality}",
    "a patient's {modality}, with signs of {finding}",
    "{modality} in a case of {finding}",
    "the {modality} suggests {finding}",
)


@dataclass(frozen=True, slots=True)
class Group:
    """Classes that share a prompt phrase, in one kind or in several.

    Attributes:
        names: ways to say it, the card's phrase first.
        modality: what kind of image shows it.
    """

    names: tuple[str, ...]
    modality: str

    def prompt(self, rng: np.random.Generator) -> str:
        """One of its names in one of the templates."""
        template, name = (str(rng.choice(choices)) for choices in (_TEMPLATES, self.names))
        return template.format(finding=name, modality=self.modality)


def card_of(kind: str) -> Card:
    """The card that a medical kind of phantoms is named after.

    Raises:
        DataError: there is no such card.
    """
    card = find_card(kind)
    if card is None:
        raise DataError(
            f"There is no card for phantoms of kind {kind!r}. Install MedFocus anew: cards come "
            "with it."
        )
    return card


def groups() -> tuple[list[Group], dict[tuple[str, str], int]]:
    """All groups, and (kind, class) -> index of its group."""
    found: dict[str, Group] = {}
    index: dict[tuple[str, str], int] = {}
    for kind in KINDS:
        card = card_of(kind)
        for item in card.classes:
            known = found[item.prompt].names if item.prompt in found else (item.prompt,)
            other = (_bare(item.prompt), item.name, *item.folders)
            names = dict.fromkeys((*known, *(name.replace("_", " ").lower() for name in other)))
            found[item.prompt] = Group(tuple(names), card.modality)
            index[kind, item.name] = list(found).index(item.prompt)
    for label in CLASSES[PICTURES]:
        index[PICTURES, label] = len(found)
        found[f"{PICTURES}: {label}"] = Group((label,), "picture")
    return list(found.values()), index


def card_prompts() -> set[str]:
    """Every prompt of the cards, as `plain` puts it."""
    texts = (text for kind in KINDS for texts in card_of(kind).prompts() for text in texts)
    return {plain(text) for text in texts}


def plain(text: str) -> str:
    """A text without the case and the full stop that say nothing."""
    return text.lower().rstrip(" .")


def _bare(phrase: str) -> str:
    """A noun phrase without its article."""
    return phrase.removeprefix("an ").removeprefix("a ")


def zero_shot_accuracy(encoder: Encoder, kind: str, *, seed: int, count: int) -> float:
    """Share of the phantoms whose class text is the most similar, in [0, 1].

    Args:
        encoder: a dual encoder.
        kind: a medical kind.
        seed: of the phantoms; not the one that was trained on.
        count: number of phantoms, classes in turn.

    Raises:
        ConfigError: the encoder has no text tower.
    """
    if not isinstance(encoder, TextEncoder):
        raise ConfigError("Zero-shot classification needs a dual encoder: use lite-clip or clip.")
    card = card_of(kind)
    texts = class_means(map(encoder.encode_text, card.prompts()))
    phantoms = [draw(kind, seed, index) for index in range(count)]
    labels = np.array([card.class_index[one.label.casefold()] for one in phantoms])
    found: list[int] = []
    for start in range(0, count, encoder.batch_size):
        batch = phantoms[start : start + encoder.batch_size]
        pictures = np.stack([encoder.prepare(one.image) for one in batch])
        found += (normalise(encoder.encode(pictures).pooled) @ texts.T).argmax(axis=1).tolist()
    return float(np.mean(np.array(found) == labels))
