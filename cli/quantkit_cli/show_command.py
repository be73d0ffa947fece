"""``quantkit show``: what a calibration file holds, and what each method makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli.console import Quiet, Verbose
from quantkit_cli.data_options import AsJson
from quantkit_cli.outputs import check_output
from quantkit_cli.quantization_options import Method, Percentile

_PLOTTED = 12


def show(
    table: Annotated[
        Path, typer.Argument(metavar="T", help="A file that `quantkit calibrate` wrote.")
    ],
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            metavar="GLOB",
            help="Only these tensors, up to 4 of them as charts; may be repeated.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="By name, range (widest first) or tail (longest first).")
    ] = "name",
    method: Method = None,
    percentile: Percentile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help=f"Also a picture of these tensors; default: the {_PLOTTED} longest tails.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show ranges and histograms of a calibration file.

    Ranges are those of the tensors by themselves; `export` and `quantize` keep the full range of
    the network's inputs and outputs, whatever the method.
    """
    from quantkit.calibration.table import CalibrationTable
    from quantkit.config import QuantConfig
    from quantkit.errors import CalibrationError
    from quantkit.range_estimators.contract import RANGE_ESTIMATORS, RangeOptions
    from quantkit.reporting.histogram_plot import check_plot, plot_histograms
    from quantkit.reporting.render_calibration import CHARTED, print_charts, print_table
    from quantkit.reporting.table_rows import named_order, select, table_facts, table_rows

    method = method or QuantConfig().range_estimator
    RANGE_ESTIMATORS[method]
    order = named_order(sort)
    options = RangeOptions() if percentile is None else RangeOptions(percentile=percentile)
    if plot is not None:
        check_plot(plot)
        check_output(plot, inputs=(table,), option="--plot")
    if table.suffix.lower() == ".onnx":
        raise CalibrationError(
            f"{str(table)!r} is a model, not a calibration file; `quantkit inspect` shows models"
        )
    loaded = CalibrationTable.load(table)
    chosen = select(loaded.statistics, tensor or ())
    as_charts = tensor is not None and len(chosen) <= CHARTED
    methods = tuple(RANGE_ESTIMATORS) if as_charts or as_json else (method,)
    rows = sorted(table_rows(chosen, methods, options), key=order)
    if plot is not None:
        names = [row.name for row in (rows if tensor else sorted(rows, key=named_order("tail")))]
        plotted = {name: chosen[name] for name in (names if tensor else names[:_PLOTTED])}
        title = f"{table.name}: {loaded.model_name}, {loaded.sample_count} samples"
        plot_histograms(table_rows(plotted, RANGE_ESTIMATORS, options), plot, title=title)
    if as_json:
        facts = {"file": str(table), "method": method, **table_facts(loaded, rows)}
        print(json.dumps(facts, indent=2))
        return
    if as_charts:
        print_charts(loaded, str(table), rows)
    else:
        print_table(loaded, str(table), rows, method)
    if plot is not None:
        print(f"\nwrote {plot}: {len(plotted)} of {len(loaded.statistics)} tensors")
