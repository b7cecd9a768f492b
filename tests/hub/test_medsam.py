"""The profile medsam and ``adapt`` from a hub: the real commands, a tiny random MedSAM."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.hub.repositories import as_pytorch, complete
from tests.hub.server import Hub
from tests.segmenters.sam_models import write_sam
from tests.stages.conftest import Medfocus, medfocus

__all__ = ["medfocus"]

MEDSAM = "wanglab/medsam-vit-base"
SMALL = ("--train", "4", "--test", "2", "--size", "64", "--workers", "1")


def run(medfocus: Medfocus, *arguments: str) -> str:
    answer = medfocus(*arguments)
    assert answer.code == 0, answer
    return answer.out


def test_medsam_segments_embeds_and_goes_from_machine_to_machine(
    hub: Hub, medfocus: Medfocus, tmp_path: Path
) -> None:
    folder = as_pytorch(write_sam(tmp_path / "served" / MEDSAM))
    hub.repositories[MEDSAM] = complete(folder, MEDSAM)
    run(medfocus, "phantom", "chest", "--domains", "3", *SMALL)
    first = ("phantom-chest-digital", "--profile", "medsam")
    assert "6 images in" in run(medfocus, "masks", *first)
    assert "6 images in" in run(medfocus, "embed", "phantom-chest-digital")
    one = ("--row", "linear:segmented", "--fractions", "100", "--seeds", "1", "--workers", "1")
    assert "linear on segmented" in run(medfocus, "probe", *one)
    few = ("--methods", "source", "--source", "digital", "--seeds", "1", "--workers", "1")
    out = run(medfocus, "adapt", "phantom-pneumonia", "--profile", "medsam", *few)
    # The first domain is embedded already; of the others only what the study reads.
    assert out.count(": 6 images in") == 2
    assert "digital → film" in out
    rows = pq.read_table("cache/phantom-pneumonia/results/adaptation.parquet").to_pylist()
    assert [row["target"] for row in rows] == ["film", "portable"]
    assert {row["encoder"] for row in rows} == {"medsam-vit-base"}
