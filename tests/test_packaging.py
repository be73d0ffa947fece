"""What is shipped: the list of packages, and (slow) a wheel built from the sdist and installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOP_LEVEL = {"quantkit", "quantkit_cli"}


@dataclass(frozen=True, slots=True)
class Distributions:
    """A source distribution and the wheel that was built from it."""

    sdist: Path
    wheel: Path


def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def test_packages_are_those_of_the_tree(repository: Path) -> None:
    settings = project(repository)["tool"]["setuptools"]
    in_tree = {
        ".".join(init.parent.relative_to(root).parts)
        for root, package in ((repository, "quantkit"), (repository / "cli", "quantkit_cli"))
        for init in (root / package).rglob("__init__.py")
    }
    assert settings["packages"] == sorted(settings["packages"])
    assert set(settings["packages"]) == in_tree | {"quantkit.calib_data"}


def test_every_bundled_file_is_matched_by_package_data(repository: Path) -> None:
    patterns = project(repository)["tool"]["setuptools"]["package-data"]["quantkit.calib_data"]
    shipped = {path for pattern in patterns for path in (repository / "calib_data").glob(pattern)}
    files = {path for path in (repository / "calib_data").iterdir() if path.is_file()}
    # The script that made the data stays in the repository.
    assert {path.name for path in files - shipped if path.suffix != ".py"} == set()
    assert shipped


def test_development_requirements_are_pinned_and_hashed(repository: Path) -> None:
    lines = (repository / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    entries = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries if entry)
    pinned = {entry.split("==")[0].lower() for entry in entries if entry}
    settings = project(repository)
    wanted = [*settings["project"]["dependencies"], *settings["dependency-groups"]["dev"]]
    names = {requirement.split(">")[0].lower() for requirement in wanted}
    assert names - pinned == set()
    assert "://" not in "\n".join(lines)


@pytest.fixture(scope="module")
def built(
    repository: Path, repository_files: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Distributions:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for path in repository_files:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / path, source / path)
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")],
        cwd=source,
    )
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return Distributions(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment with the wheel; it borrows its dependencies from here."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(built.wheel)], cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched, but its own .pth files (an editable quantkit) are
    # not read.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def run(command: list[str], cwd: Path) -> str:
    """Standard output of a command that knows nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def members(built: Distributions) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(built.wheel) as wheel:
        for name in wheel.namelist():
            yield name, wheel.read(name)
    with tarfile.open(built.sdist) as sdist:
        for member in sdist.getmembers():
            file = sdist.extractfile(member)
            if file is not None:
                yield member.name, file.read()


@pytest.mark.slow
def test_the_wheel_holds_two_packages_and_the_data(built: Distributions, repository: Path) -> None:
    names = zipfile.ZipFile(built.wheel).namelist()
    top_level = {name.split("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == TOP_LEVEL
    sources = {
        path.relative_to(root).as_posix()
        for root in (repository, repository / "cli")
        for package in TOP_LEVEL
        for path in (root / package).rglob("*.py")
    }
    data_prefix = "quantkit/calib_data/"
    modules = {name for name in names if name.endswith(".py")}
    assert {name for name in modules if not name.startswith(data_prefix)} == sources
    assert {"quantkit/py.typed", "quantkit_cli/py.typed"} <= set(names)
    data = {name.removeprefix(data_prefix) for name in names if name.startswith(data_prefix)}
    assert {name for name in data if not name.endswith(".py")} == {
        path.name
        for path in (repository / "calib_data").iterdir()
        if path.suffix in {".onnx", ".npz", ".csv", ".md"}
    }
    assert any(name.endswith(".onnx") for name in data)


@pytest.mark.slow
def test_nothing_shipped_names_this_machine(built: Distributions, repository: Path) -> None:
    names = [str(repository), str(Path.home()), str(built.wheel.parent)]
    for member, content in members(built):
        for name in names:
            assert f"{name}/".encode() not in content, f"{member} names {name}"


@pytest.mark.slow
def test_the_installed_program_runs(installed: Path, tmp_path: Path) -> None:
    assert run([str(installed / "quantkit"), "--help"], tmp_path).startswith("Usage: quantkit")
    model = "next(e for e in quantkit.bundled.files().iterdir() if e.name.endswith('.onnx'))"
    path = run(
        [str(installed / "python"), "-c", f"import quantkit.bundled; print({model})"], tmp_path
    ).strip()
    assert Path(path).is_relative_to(installed.parent)
    assert "Depthwise separable blocks" in run(
        [str(installed / "quantkit"), "inspect", path], tmp_path
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cli", "tests", "calib_data", "benchmarks"])
def test_nothing_else_can_be_imported(installed: Path, tmp_path: Path, name: str) -> None:
    code = (
        f"import importlib.util as u; print(u.find_spec({name!r}), u.find_spec('quantkit').origin)"
    )
    spec, origin = run([str(installed / "python"), "-c", code], tmp_path).split()
    assert spec == "None"
    assert Path(origin).is_relative_to(installed.parent)
