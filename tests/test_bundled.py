"""Where the bundled model is looked for."""

from pathlib import Path

import pytest

from quantkit import bundled
from quantkit.errors import ModelError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package in a folder of its own."""
    package = tmp_path / "quantkit"
    package.mkdir()
    monkeypatch.setattr(bundled, "package_files", lambda name: tmp_path / str(name))
    return package


def put_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.onnx").touch()
    return folder


def test_a_wheel_has_it_inside_the_package(package: Path) -> None:
    inside = put_model(package / "calib_data")
    # A stray folder beside an installed package is not ours.
    put_model(package.parent / "calib_data")
    assert bundled.files() == inside


def test_a_checkout_has_it_beside_the_package(package: Path) -> None:
    (package.parent / "pyproject.toml").touch()
    beside = put_model(package.parent / "calib_data")
    assert bundled.files() == beside
    with bundled.folder() as folder:
        assert (folder / "model.onnx").is_file()


def test_beside_counts_only_in_a_checkout(package: Path) -> None:
    put_model(package.parent / "calib_data")
    with pytest.raises(ModelError, match="the bundled model is missing"):
        bundled.files()


def test_a_folder_without_a_model_is_not_enough(package: Path) -> None:
    (package / "calib_data").mkdir()
    with pytest.raises(ModelError, match=r"no \.onnx file in .*calib_data'; install quantkit"):
        bundled.files()


def test_this_repository_has_one() -> None:
    assert any(entry.name.endswith(".onnx") for entry in bundled.files().iterdir())
