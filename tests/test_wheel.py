"""The wheel, installed outside the clone, carries the cards and the profiles."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.stages.conftest import make_images

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def medfocus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of the wheel, in an environment that does not know the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    site = next((environment / "lib").glob("python*/site-packages"))
    # The dependencies are this environment's. Its editable clone is not among them: what a
    # .pth file adds is not searched for further .pth files.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["-m", "pip", "--python", str(environment), "install", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    return environment / "bin" / "medfocus"


def test_the_wheel_works_outside_the_clone(medfocus: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", train=3, test=2)
    for split, name in (("train", "Training"), ("test", "Testing")):
        for old, new in (("disc", "glioma"), ("square", "notumor")):
            (images / name).mkdir(exist_ok=True)
            (images / split / old).rename(images / name / new)
    for arguments in (["scan"], ["masks", "--profile", "imagenet"], ["status"]):
        command = [medfocus, *arguments[:1], "brain", "--data", images, *arguments[1:]]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        if arguments == ["scan"]:
            assert "Brain Tumor MRI" in run.stdout
            assert "train  glioma: 3" in run.stdout
    where = subprocess.run(
        [medfocus.parent / "python", "-c", "import medfocus_pipeline as one; print(one.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in where.stdout


def test_every_card_is_in_the_wheel(medfocus: Path) -> None:
    (cards,) = medfocus.parents[1].glob("lib/python*/site-packages/medfocus_pipeline/cards")
    assert {path.name for path in cards.iterdir()} == {
        path.name for path in (ROOT / "data").glob("*.yaml")
    }
