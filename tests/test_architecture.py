"""Imports point one way, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "medfocus_pipeline"

# DESIGN: imports run left to right only. Units of one tuple are independent of each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("types", "errors"),
    ("object_systems",),
    ("object_paths",),
    ("places",),
    ("files", "columns", "plain_yaml", "schedule", "seeding", "workers", "config", "augmentation"),
    ("sealed", "vectors", "ids"),
    ("sealed_tables",),
    ("devices", "tensors", "profiles"),
    ("hub",),
    ("weights",),
    ("weight_files", "model_record"),
    ("datasets", "efficientnet", "plugins", "zoo"),
    ("masks", "sam"),
    ("segmenters", "encoders"),
    ("stores",),
    ("engines",),
    ("segmentation", "image_roi", "text_embedding"),
    ("embedding",),
    ("pictures", "embedded"),
    ("features",),
    ("heads",),
    ("adaptation", "gate"),
    ("evaluation",),
    ("report", "training", "reproduction"),
    ("tuning",),
    ("classifier",),
    ("project",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LAYER_OF = {unit: level for level, units in enumerate(LAYERS) for unit in units}

HOMES = {
    "sam2": {"sam/sam2.py", "segmenters/sam2_decoder.py"},
    "hydra": {"sam/sam2.py"},
    "omegaconf": {"sam/sam2.py"},
    "transformers": {
        "encoders/clip.py",
        "encoders/hugging_face.py",
        "encoders/lite_clip.py",
        "encoders/medclip.py",
        "sam/sam_model.py",
        "segmenters/sam3.py",
    },
    "open_clip": {"encoders/open_clip.py"},
    "accelerate": {"tuning/trainer.py"},
    "optuna": {"tuning/search.py"},
    "peft": {"tuning/network.py"},
    "timm": {"encoders/timm.py", "efficientnet.py"},
    "pydicom": {"datasets/dicom.py"},
    "nibabel": {"datasets/nifti.py"},
    "ray": {"engines/ray_"},
    "fsspec": {"object_systems.py", "object_paths.py"},
    "rich": {"commands/", "cli/"},
    "typer": {"commands/", "cli/"},
}


def sources() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node in tree.body) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in tree.body
            if node.module == "medfocus_pipeline":
                yield from (
                    (f"{node.module}.{name.name}", node in tree.body)
                    for name in node.names
                    if not name.name.startswith("__")
                )


def unit_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module, _ in imports(path):
        assert not module.startswith(("stages", "tests")), f"{path} imports {module}"
        unit = unit_of(module) if module.startswith("medfocus_pipeline") else ""
        if unit and unit != own:
            assert LAYER_OF[unit] < LAYER_OF[own], f"{own} imports {unit}, to its right"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_heavy_libraries_stay_in_their_adapters(path: Path) -> None:
    name = str(path.relative_to(LIBRARY))
    for module, top in imports(path):
        package = module.split(".")[0]
        homes = HOMES.get(package, {name})
        assert any(name.startswith(home) for home in homes), f"{name} imports {package}"
        heavy = {
            "torch",
            "torchvision",
            "sam2",
            "transformers",
            "timm",
            "open_clip",
            "sklearn",
            "zarr",
            "skimage",
            "matplotlib",
            "jinja2",
            "accelerate",
            "optuna",
            "peft",
            "ray",
        }
        assert not (top and package in heavy), f"{name} imports {package} before it is needed"


def test_every_module_has_a_place_in_the_layers() -> None:
    units = {path.relative_to(LIBRARY).parts[0].removesuffix(".py") for path in sources()}
    assert units - {"__init__"} <= set(LAYER_OF)


ROLES = {"plugin", "protocol", "saved", "table"}
"""What several packages have, each its own."""

SERVING = {
    *("stages", "cli", "commands", "commands/report", "config", "project", "report", "training"),
}
"""Packages whose files are called like what they serve: ``commands/gate`` and ``config/gate``."""


def test_a_file_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for path in sources():
        package = path.parent.relative_to(LIBRARY).as_posix()
        if path.stem not in ROLES | {"__init__"} and package not in SERVING:
            homes.setdefault(path.stem, []).append(package)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_the_command_line_starts_without_heavy_libraries() -> None:
    code = "import sys, medfocus_pipeline.cli; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {
        *("torch", "transformers", "sam2", "timm", "open_clip", "sklearn", "zarr", "pandas"),
        *("matplotlib", "jinja2", "ray"),
    }


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_the_library_reads_no_environment_and_prints_nothing(path: Path) -> None:
    if path.relative_to(LIBRARY).parts[0] in {"commands", "cli", "__main__.py"}:
        return
    text = path.read_text(encoding="utf-8")
    for forbidden in ("os.environ", "getenv", "print("):
        assert forbidden not in text
