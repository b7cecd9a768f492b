"""What a model answers to points of a grid, and the candidates in it; see `prompting`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import Sam2Config, SamConfig
from medfocus_pipeline.masks.candidates import Limits, select
from medfocus_pipeline.masks.votes import Votes, covers, support
from medfocus_pipeline.segmenters import prompting
from medfocus_pipeline.types import Candidates, FloatArray, Image, IntArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class MaskPredictions:
    """The masks with a good enough score, prompt by prompt.

    Attributes:
        masks: ``(m, S, S) bool``.
        score: ``(m,) float32`` in [0, 1].
        stability: ``(m,) float32`` in [0, 1].
        prompt: ``(m,) int64``, number of the prompt, in the order of asking.
    """

    masks: NDArray[np.bool_]
    score: FloatArray
    stability: FloatArray
    prompt: IntArray


Ask = Callable[[IntArray, int], MaskPredictions]
"""Asks some of a grid's points; the prompts are numbered from the second argument."""


def joined(parts: Sequence[MaskPredictions]) -> MaskPredictions:
    """All answers, one after the other."""
    return MaskPredictions(
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.stability for part in parts]),
        np.concatenate([part.prompt for part in parts]),
    )


def sampled(cells: "Tensor", side: int) -> FloatArray:
    """What the points of a grid look like: a map's mean around each.

    Args:
        cells: ``(1, c, h, w)``.
        side: of the grid.

    Returns:
        ``(side * side, c) float32``.
    """
    from torch.nn import functional

    size = (side, side)
    small = functional.interpolate(cells.float(), size, mode="bilinear", antialias=True)
    looks: FloatArray = small[0].flatten(1).mT.cpu().numpy()
    return looks


def candidates(
    ask: Ask,
    look: Callable[[], Sequence[FloatArray]],
    image: Image,
    *,
    config: Sam2Config | SamConfig,
    max_candidates: int,
) -> Candidates:
    """The best masks of one image, found with all points of a grid or those that promise most.

    Args:
        ask: the model.
        look: what the grid's points look like, ``(side * side, c) float32`` each; called only
            where that decides which points are asked.
        image: for the candidates' boxes.
        config: the grid and the limits, of which None is none.
        max_candidates: K.
    """
    side = config.points_per_side
    limits = Limits(
        config.min_score or 0.0, config.min_stability or 0.0, config.min_area, config.max_area
    )
    if config.prompting == "grid":
        asked = np.arange(side * side)
        answers = ask(asked, 0)
    else:
        asked, answers = _ask_adaptively(ask, look(), side=side, limits=limits)
    return select(
        answers.masks,
        answers.score,
        answers.stability,
        image=image,
        limits=limits,
        duplicate_iou=config.duplicate_iou,
        max_candidates=max_candidates,
        votes=Votes(prompting.grid(side)[asked], answers.prompt),
    )


def _ask_adaptively(
    ask: Ask, levels: Sequence[FloatArray], *, side: int, limits: Limits
) -> tuple[IntArray, MaskPredictions]:
    """Asks the quarter of a grid's points that promises most.

    Args:
        ask: the model.
        levels: ``(side * side, c) float32`` each, what the grid's points look like.
        side: of the grid.
        limits: what a candidate must have that speaks for its surroundings.

    Returns:
        Which points were asked, ``(p,) int64``, and all answers.
    """
    points = prompting.grid(side)
    features = prompting.describe(levels, points)
    asked = prompting.coarse_points(side)
    answers = ask(asked, 0)
    for count in prompting.rounds(side):
        covered = covers(_confident(answers, points[asked], limits), points)
        chosen = prompting.next_points(features, asked, covered=covered, count=count)
        answers = joined([answers, ask(chosen, len(asked))])
        asked = np.concatenate([asked, chosen])
    return asked, answers


def _confident(answers: MaskPredictions, asked: FloatArray, limits: Limits) -> NDArray[np.bool_]:
    """``(m, S, S) bool``, the masks that are good enough and that other prompts support."""
    good = np.flatnonzero(limits.met(answers.masks, answers.score, answers.stability))
    votes = Votes(asked, answers.prompt)
    agreed = support(answers.masks, of=good, among=good, votes=votes) >= prompting.AGREED
    confident: NDArray[np.bool_] = answers.masks[good[agreed]]
    return confident
