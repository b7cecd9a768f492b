"""Folders outside the cache: nothing of the user's is overwritten or removed."""

from pathlib import Path

import pytest

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.files import claim


def test_a_folder_with_somebodys_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"figures/mine\.png"):
        claim(tmp_path, ["index.html", "figures/a.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_a_folder_with_an_input_is_refused_also_if_we_wrote_the_input(tmp_path: Path) -> None:
    claim(tmp_path, ["scan.png"])
    (tmp_path / "scan.png").write_bytes(b"ours")
    with pytest.raises(ConfigError, match="to be read"):
        claim(tmp_path, ["scan.png"], inputs=[tmp_path / "scan.png"])


def test_our_own_folder_is_written_again_and_keeps_what_it_knew(tmp_path: Path) -> None:
    claim(tmp_path / "new", ["a.png"])
    (tmp_path / "new" / "a.png").write_bytes(b"ours")
    (tmp_path / "new" / ".b.png.77.partial").write_bytes(b"left by a kill")
    claim(tmp_path / "new", ["b.png"])
    claim(tmp_path / "new", ["a.png"])
    (tmp_path / "new" / "c.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"c\.png"):
        claim(tmp_path / "new", ["a.png"])


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is a file"):
        claim(tmp_path / "out", [])
