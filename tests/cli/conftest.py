"""Logging as every test finds it, and a folder full of good and bad files."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantkit_cli import app as program
from quantkit_cli import console
from tests.cli.workbench import fill


@pytest.fixture(autouse=True)
def _restore_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv(program.TRACEBACK_VARIABLE, raising=False)
    logger: logging.Logger = console.logger
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session")
def filled_workbench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workbench")
    fill(folder)
    return folder


@pytest.fixture
def workbench(filled_workbench: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See ``workbench.fill``; shared by all tests, which write elsewhere. The working folder."""
    monkeypatch.chdir(filled_workbench)
    return filled_workbench
