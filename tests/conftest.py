"""Hypothesis profiles, ``--update-golden`` and the folder of real models."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
NOT_OURS = {".git", ".venv", "build", "dist", "demo_output", "bench_output"}

# As the program sets it: OpenBLAS's threads wait for each other on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples in every run: a failure on one machine is a failure on all.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden texts anew instead of comparing with them; review the diff",
    )


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden texts are to be written anew."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def repository_files() -> tuple[Path, ...]:
    """Files git tracks or would add, relative to the root; without git, all but known caches."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return tuple(sorted(_files_without_git(REPOSITORY)))
    return tuple(sorted(Path(n) for n in listing.split("\0") if (REPOSITORY / n).is_file()))


def _files_without_git(root: Path) -> list[Path]:
    def is_ours(path: Path) -> bool:
        return not any(
            part in NOT_OURS or part.endswith((".egg-info", "_cache", "__pycache__", ".hypothesis"))
            for part in path.parts
        )

    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return [path for path in found if is_ours(path)]


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The folder of real models and pictures; without it the test is skipped."""
    folder = Path(os.environ.get("QUANTKIT_ZOO", REPOSITORY.parent / "shared" / "zoo"))
    if not folder.is_dir():
        pytest.skip("no model zoo: set QUANTKIT_ZOO, or put it at ../shared/zoo")
    return folder
