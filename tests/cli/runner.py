"""Commands run in this process, with what they print."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from quantkit_cli.app import main


def run(command: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    found = main(shlex.split(command))
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured.out, captured.err


def run_json(command: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    out, _ = run(f"{command} --json", capsys, code)
    facts: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    return facts


def progress_lines(err: str) -> list[str]:
    """Lines of stderr without rates and remaining times, which differ from run to run."""
    return [re.sub(r"(: \d+ of \d+), .*", r"\1", line) for line in err.splitlines()]


def contents(folder: Path) -> dict[str, str]:
    """Every file, hidden ones too, and the digest of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
