import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
import sys
import numpy as np
from medfocus_pipeline.config import FusionConfig, LinearConfig
from medfocus_pipeline.heads.table import make_head
from medfocus_pipeline.heads.protocol import TrainingSet

features = np.random.default_rng(0).normal(size=(30, 3, 2600)).astype(np.float32)
train = TrainingSet(features, np.arange(30) % 3, 3, None)
one = LinearConfig(c_grid=(1.0,))
if len(sys.argv) > 1:
    import torch
    torch.set_num_threads(int(sys.argv[1]))
for config in (FusionConfig(epochs=1, width=32, classifier=one), one):
    fitted = make_head(config).fit(train, np.random.default_rng(0))
    print(hashlib.sha256(fitted.predict_proba(features).tobytes()).hexdigest())
"""


def hashes(threads: int, *told: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *told],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: there is nothing to compare")
def test_a_process_s_first_fit_depends_neither_on_its_threads_nor_on_those_torch_was_told() -> None:
    assert hashes(1) == hashes(2) == hashes(2, "2")


def test_importing_the_heads_imports_neither_torch_nor_scikit_learn() -> None:
    program = (
        "import sys, medfocus_pipeline.heads.table as _;"
        "heavy = {'torch', 'sklearn', 'scipy', 'threadpoolctl'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
