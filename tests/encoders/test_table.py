"""The table of encoders is complete and light."""

import subprocess
import sys
from typing import get_args

from medfocus_pipeline.config import EncoderConfig, SegmenterConfig
from medfocus_pipeline.encoders import ENCODERS
from medfocus_pipeline.segmenters import SEGMENTERS


def test_every_config_has_an_entry() -> None:
    for configs, table in ((EncoderConfig, ENCODERS), (SegmenterConfig, SEGMENTERS)):
        either, _ = get_args(configs)
        own, plugin = (get_args(one)[0] for one in get_args(either))
        assert {*get_args(own), plugin} == table.keys()


def test_finding_weights_imports_no_heavy_library() -> None:
    program = """
import sys
from medfocus_pipeline.config import ClipConfig, EfficientNetLiteConfig, TimmConfig
from medfocus_pipeline.encoders import find_weights
from medfocus_pipeline.weights import FileHashes
for config in (EfficientNetLiteConfig(), ClipConfig(model="no/such"), TimmConfig(model="no.such")):
    find_weights(config, FileHashes(), download=False)
print(sorted({"torch", "timm", "transformers", "httpx", "httpx2"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
