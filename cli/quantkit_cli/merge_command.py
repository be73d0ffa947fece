"""``quantkit merge``: calibration files of parts of the data, made one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantkit_cli.console import Quiet, Verbose
from quantkit_cli.data_options import AsJson
from quantkit_cli.outputs import check_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantkit.calibration.table import CalibrationTable

logger = logging.getLogger("quantkit")
_ADDENDS = 8


def merge(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="A B ...", help="Files that `quantkit calibrate` wrote."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file for all samples.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Make one calibration file of several.

    It is the one that a single pass over all their samples writes. They must be of the same model
    and preprocessing, and of different samples; their order does not matter.
    """
    _check_files(tables)
    check_output(output, inputs=tables)
    merged, sizes = _merged(tables)
    merged.save(output)
    if as_json:
        facts = {
            "output": str(output),
            "inputs": [
                {"file": str(path), "samples": samples}
                for path, samples in zip(tables, sizes, strict=True)
            ],
            "samples": merged.sample_count,
            "tensors": len(merged.statistics),
            "model_digest": merged.model_digest,
            "data_digest": merged.data_digest,
        }
        print(json.dumps(facts, indent=2))
    else:
        parts = " + ".join(map(str, sizes)) if len(sizes) <= _ADDENDS else f"{len(sizes)} files"
        print(
            f"wrote {output}: {len(merged.statistics)} tensors over {merged.sample_count} samples "
            f"({parts})"
        )


def _check_files(tables: Sequence[Path]) -> None:
    """Two files or more, each of them once."""
    from quantkit.errors import ConfigError

    if len(tables) < 2:
        raise ConfigError(
            f"one file, {str(tables[0])!r}, is nothing to merge; give two calibration files or more"
        )
    seen: dict[Path, Path] = {}
    for path in tables:
        other = seen.setdefault(path.resolve(), path)
        if other is not path:
            raise ConfigError(
                f"{str(path)!r} is given twice; its samples would count twice: give it once"
            )


def _merged(tables: Sequence[Path]) -> tuple[CalibrationTable, list[int]]:
    """All of them as one, and the samples of each; two tables at a time in memory."""
    from quantkit.calibration.table import CalibrationTable
    from quantkit.calibration.table import merge as merge_two
    from quantkit.errors import TableMismatchError

    first, *others = tables
    merged = CalibrationTable.load(first)
    sizes = [merged.sample_count]
    digests = {merged.data_digest: first}
    for path in others:
        table = CalibrationTable.load(path)
        try:
            merged = merge_two(merged, table)
        except TableMismatchError as error:
            raise TableMismatchError(f"{str(path)!r}: {error}") from error
        same = digests.setdefault(table.data_digest, path)
        if same is not path:
            logger.warning("%s and %s hold the same samples: they count twice", same, path)
        sizes.append(table.sample_count)
    return merged, sizes
