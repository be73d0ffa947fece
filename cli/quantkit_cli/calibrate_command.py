"""``quantkit calibrate``: one pass over the data, into a file that any quantization can use."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantkit_cli import data_options as options
from quantkit_cli.console import Quiet, Verbose, progress
from quantkit_cli.outputs import check_output, files_of_model

if TYPE_CHECKING:
    from concurrent.futures import Executor

logger = logging.getLogger("quantkit.calibrate")


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A float ONNX model.")],
    data: options.DataArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; default: MODEL.calib.npz here."),
    ] = None,
    preset: options.Preset = None,
    mean: options.Mean = None,
    std: options.Std = None,
    resize: options.Resize = None,
    fit: options.Fit = None,
    crop: options.Crop = None,
    size: options.Size = None,
    layout: options.Layout = None,
    channel_order: options.ChannelOrder = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Batches in the works at a time; default: 2, in a worker 1."
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Count every value; otherwise the far tails, and a sample of the rest.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Share the samples among processes here."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option("--dask", help="Share them among a Dask cluster, as tcp://scheduler:8786."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted pass, if there is one.")
    ] = False,
    strict: options.Strict = False,
    as_json: options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Run MODEL over DATA once and write the ranges of its tensors.

    The file serves any number of `quantkit export` with any options.
    """
    from quantkit.pipeline import calibrate as run

    preprocessing = options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    path = output or Path(f"{model.stem}.calib.npz")
    checkpoint = path.with_name(f"{path.name}.unfinished")
    for written in (path, checkpoint):
        check_output(written, inputs=(*files_of_model(model), data))
    if checkpoint.exists() and not resume:
        logger.warning("starting anew: %s is given up, --resume would go on with it", checkpoint)
    chosen = 0  # samples, unreadable ones too
    try:
        with _executor(workers, dask) as executor, progress("calibrate") as advance:

            def tell(done: int, total: int) -> None:
                nonlocal chosen
                chosen = total
                advance(done, total)

            table = run(
                model,
                data,
                preprocessing=preprocessing,
                num_samples=num_samples,
                batch_size=batch_size,
                threads=threads or (2 if executor is None else 1),
                exact=exact,
                strict=strict,
                executor=executor,
                checkpoint=checkpoint,
                resume=resume,
                progress=tell,
            )
    except KeyboardInterrupt:
        if checkpoint.exists():
            logger.warning("what is done is kept in %s: go on with --resume", checkpoint)
        raise
    table.save(path)
    checkpoint.unlink(missing_ok=True)
    skipped = chosen - table.sample_count
    if as_json:
        facts = {
            "output": str(path),
            "samples": table.sample_count,
            "skipped": skipped,
            "tensors": len(table.statistics),
            "exact": table.exact,
            "model_digest": table.model_digest,
            "data_digest": table.data_digest,
        }
        print(json.dumps(facts, indent=2))
    else:
        without = f" ({skipped} of {chosen} cannot be read)" if skipped else ""
        tensors, samples = len(table.statistics), table.sample_count
        print(f"wrote {path}: {tensors} tensors over {samples} samples{without}")


def _executor(workers: int | None, dask: str | None) -> AbstractContextManager[Executor | None]:
    from quantkit.errors import ConfigError

    if workers is not None and dask is not None:
        raise ConfigError("--workers and --dask exclude each other")
    if workers is None and dask is None:
        return nullcontext()

    from quantkit.calibration.executors import dask_cluster, local_processes

    return dask_cluster(dask) if dask is not None else local_processes(workers or 1)
