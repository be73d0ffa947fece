"""Measurements that outlive the process: a file of JSON lines, to which each is added when made.

The first line names the work (a digest of all that decides the numbers), every other one a
measurement by its key. A process that dies while it writes leaves a damaged last line at most,
which is cut off when the file is read.
"""

import hashlib
import json
import logging
from dataclasses import astuple
from pathlib import Path
from typing import Any

from quantkit.errors import CalibrationError
from quantkit.evaluation.measurement import Measurement
from quantkit.numerics.paired import PairedCounts

logger = logging.getLogger(__name__)


def digest_of(*facts: Any) -> str:
    """A SHA-256 over JSON values, as hex digits."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def begin_log(path: Path, work: str) -> None:
    """Begin a file of this work; one that is there is lost.

    Raises:
        CalibrationError: The place cannot be written to.
    """
    _write(path, "w", json.dumps({"work": work}))


def read_log(path: Path, work: str) -> dict[str, Measurement]:
    """The measurements of a file by key; a damaged last line is cut off.

    Raises:
        CalibrationError: The file is damaged elsewhere, or of other work.
    """
    try:
        with path.open("rb") as file:
            lines = file.readlines()
    except OSError as error:
        raise CalibrationError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    found: dict[str, Measurement] = {}
    for number, line in enumerate(lines, 1):
        try:
            # JSON ends with the line: one that is cut off is damaged, however it reads.
            entry = json.loads(line if line.endswith(b"\n") else b"")
            if number == 1:
                theirs = str(entry["work"])
            else:
                found[entry["key"]] = _measurement(entry)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            if number == len(lines):
                lines.pop()
                _cut_last_line(path, number, sum(map(len, lines)))
                break
            raise CalibrationError(
                f"the measurements in {str(path)!r} cannot be read: line {number} is damaged; "
                "remove that line, or leave out --resume"
            ) from error
        if number == 1 and theirs != work:
            raise CalibrationError(
                f"the measurements in {str(path)!r} are of another model, other data or other "
                "options (those files may have changed since); remove it, or leave out --resume"
            )
    if not lines:
        begin_log(path, work)
    return found


def add_to_log(path: Path, key: str, measurement: Measurement) -> None:
    """Add one measurement.

    Raises:
        CalibrationError: The place cannot be written to.
    """
    entry = {
        "key": key,
        # JSON has no infinity, but Python reads its name.
        "value": repr(measurement.value),
        "sqnr_db": repr(measurement.sqnr_db),
        "counts": None if measurement.counts is None else astuple(measurement.counts),
    }
    _write(path, "a", json.dumps(entry))


def _measurement(entry: dict[str, Any]) -> Measurement:
    counts = entry["counts"]
    return Measurement(
        float(entry["value"]),
        float(entry["sqnr_db"]),
        None if counts is None else PairedCounts(*map(int, counts)),
    )


def _cut_last_line(path: Path, number: int, size: int) -> None:
    logger.warning("line %d of %s is damaged: that measurement is made again", number, path)
    try:
        with path.open("r+b") as file:
            file.truncate(size)
    except OSError as error:
        raise CalibrationError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _write(path: Path, mode: str, line: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise CalibrationError(f"cannot write {str(path)!r}: {error.strerror}") from error
