import subprocess
import sys

CODE = """
import sys
import medfocus_pipeline.devices
import medfocus_pipeline.masks.focus
import medfocus_pipeline.segmenters.sam2_decoder
heavy = {"torch", "sam2", "scipy", "skimage", "hydra"} & set(sys.modules)
sys.exit(", ".join(heavy) or 0)
"""


def test_segmenters_are_imported_without_anything_heavy():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
