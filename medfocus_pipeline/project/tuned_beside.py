"""What stands beside a fine-tuned network: heads on the features of the same encoder."""

from typing import TYPE_CHECKING

from medfocus_pipeline import encoders
from medfocus_pipeline.config import EncoderConfig, ProbeConfig, ProbeRow, ZeroShotConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.types import FeaturePart

if TYPE_CHECKING:
    from medfocus_pipeline.project.project import Project

REFERENCE = "linear on original.levels"
"""Label of the row that the fine-tuned ones are tested against."""


def beside(
    project: "Project", encoder: EncoderConfig, config: TuningConfig
) -> "tuple[Project, ProbeConfig]":
    """Linear probes, and zero-shot, on whole images and the same subsets.

    Returns:
        The project as they see it, which is not remembered as what it was last run with; and the
        rows.
    """
    context = project.context
    embed = context.profile.embed.model_copy(
        update={"encoder": encoder, "focus": ("original",), "roi_parts": False}
    )
    own = project.aside(embed)
    parts = [FeaturePart("original", "levels"), FeaturePart("original")]
    rows = [ProbeRow(focus=(part,)) for part in parts]
    if encoders.has_text(encoder):
        rows.append(ProbeRow(head=ZeroShotConfig(), focus=(parts[1],)))
    probe = ProbeConfig(
        rows=tuple(rows),
        fractions=config.fractions,
        shots=config.shots,
        seeds=config.seeds,
        split_seed=context.probe.split_seed,
        test_share=context.probe.test_share,
    )
    return own, probe
