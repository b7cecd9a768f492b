"""What a scan holds of each of many files: columns, and no objects."""

import tracemalloc
from hashlib import sha256
from pathlib import Path

from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.datasets.tree import find_images

FEW, MANY = 11_000, 22_000
"""More than a walk brings at a time."""

BYTES = 300
"""Of each file; its objects would be 1,400."""


def _scanned(root: Path, files: int) -> Manifest:
    """Empty files, and a manifest that says that a picture was seen in each."""
    for name in range(files):
        folder = root / "ab"[name % 2] / f"{name // 1000:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name:06d}.png").touch()
    rows = []
    for file in find_images(root):
        name, patient, _ = file.path.split("/")
        image_id = sha256(file.path.encode()).hexdigest()
        known = (image_id, file.path, "", "ab".index(name), name, patient, "", "")
        rows.append((*known, 64, 64, "L", 0, file.mtime_ns, ""))
    source = str(root.resolve())
    return manifests.build(rows, name="x", classes=("a", "b"), from_card=False, source=source)


def _peak(root: Path, files: int) -> int:
    before = _scanned(root, files)
    tracemalloc.start()
    found = scan(root, name="x", previous=before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.table.equals(before.with_inputs(found.inputs).table)
    return peak


def test_a_scan_makes_no_object_for_each_file(tmp_path: Path) -> None:
    few, many = _peak(tmp_path / "few", FEW), _peak(tmp_path / "many", MANY)
    assert many - few < BYTES * (MANY - FEW)
