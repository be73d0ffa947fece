"""Measurements that outlive the process: a file of JSON lines, to which each is added when made.

The first line names the work (a digest of all that decides the numbers), every other one a
measurement by its key. A process that dies while it writes leaves a damaged last line at most,
which is passed over.
"""

import hashlib
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

from quantkit.errors import CalibrationError
from quantkit.evaluation.measurement import Measurement
from quantkit.numerics.paired import PairedCounts


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
        text = path.read_bytes()
        lines = text.split(b"\n")
        whole = text[: len(text) - len(lines[-1])]
        entries = [json.loads(line) for line in lines[:-1]]
        found = {entry["key"]: _measurement(entry) for entry in entries[1:]}
        if entries and entries[0]["work"] != work:
            raise CalibrationError(
                f"the measurements in {str(path)!r} are of another model, other data or other "
                "options (those files may have changed since); remove it, or leave out --resume"
            )
        if not entries:
            begin_log(path, work)
        elif whole != text:
            with path.open("r+b") as file:
                file.truncate(len(whole))
    except (OSError, ValueError, TypeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise CalibrationError(
            f"the measurements in {str(path)!r} cannot be read ({reason}); remove the file, or "
            "leave out --resume"
        ) from error
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


def _write(path: Path, mode: str, line: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise CalibrationError(f"cannot write {str(path)!r}: {error.strerror}") from error
