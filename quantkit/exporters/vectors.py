"""Golden vectors: what every integer layer reads and must write, to check C or HDL against.

A folder with one ``NNN_<name>.npz`` per integer node (plain arrays, no pickles) and an index, for
programs (``index.json``) and for people (``README.md``). Everything a layer needs lies in its file:
see ``vector_arrays``.
"""

import json
import logging
import math
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from quantkit.errors import ConfigError, ModelError
from quantkit.exporters.contract import EXPORTERS, Samples
from quantkit.exporters.vector_arrays import layer_arrays
from quantkit.exporters.vector_index import index_entry, readme
from quantkit.graph.program import Node
from quantkit.plan import quantized_outputs
from quantkit.quantized_model.model import QuantizedModel

logger = logging.getLogger(__name__)

_LONGEST_NAME = 60
_LARGE_MB = 200


@EXPORTERS.register("vectors")
def write_vectors(model: QuantizedModel, path: Path, samples: Samples | None = None) -> None:
    """A folder of golden vectors (.npz per layer) to check C or HDL against.

    Raises:
        ConfigError: There are no samples.
        ModelError: The folder cannot be written or exists already, or no node is integer.
    """
    if samples is None:
        raise ConfigError("golden vectors hold what layers compute on samples, and there are none")
    if len(model.plan.kept_float) == len(model.prepared.program.nodes):
        raise ModelError("the model has no integer node: there are no vectors to write")
    try:
        with _new_folder(path) as folder:
            _write(model, folder, samples)
    except OSError as error:
        raise ModelError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _write(model: QuantizedModel, folder: Path, samples: Samples) -> None:
    entries: list[dict[str, Any]] = []
    for layer in samples.layers:
        if not entries:
            _warn_of_size(model, len(next(iter(layer.inputs.values()))))
        arrays = layer_arrays(layer, model)
        name = _file_name(len(entries), layer.node.name)
        with (folder / name).open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        entries.append(index_entry(name, layer, model, arrays))
    index: dict[str, Any] = {
        "format": "quantkit golden vectors",
        "format_version": 1,
        "quantkit_version": model.metadata.get("version"),
        "samples": samples.description,
        "byte_order": "little",
        "int32_sums": "wrap modulo 2^32",
        "inputs": [spec.name for spec in model.prepared.program.inputs],
        "outputs": [spec.name for spec in model.prepared.program.outputs],
        "float_islands": dict(model.plan.kept_float),
        "layers": entries,
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    (folder / "README.md").write_text(readme(index), "utf-8")


def _warn_of_size(model: QuantizedModel, runs: int) -> None:
    integer = [n for n in model.prepared.program.nodes if n.name not in model.plan.kept_float]
    megabytes = runs * sum(_bytes_of_run(node, model) for node in integer) / 1e6
    if megabytes > _LARGE_MB:
        logger.warning(
            "%d samples make about %.0f MB of vectors; --num-samples limits them", runs, megabytes
        )


def _bytes_of_run(node: Node, model: QuantizedModel) -> int:
    """Of its codes, outputs in both arithmetics, and a product's sums; open sizes count as 1."""
    specs, params = model.prepared.program.specs, model.plan.params
    names = [name for name in (*node.inputs, *2 * quantized_outputs(node)) if name in params]
    sizes = {
        name: math.prod(size for size in specs[name].shape or () if isinstance(size, int))
        for name in names
        if name in specs
    }
    codes = sum(sizes.get(name, 0) * params[name].dtype.itemsize for name in names)
    if node.name not in model.accumulator_bounds:
        return codes
    # 4 bytes for 8-bit codes, 8 for 16-bit ones.
    return codes + 4 * sizes.get(node.outputs[0], 0) * params[node.inputs[0]].dtype.itemsize


def _file_name(position: int, node: str) -> str:
    """Unique by its number, and plain ASCII whatever the node is called."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", node)[:_LONGEST_NAME].strip("._-")
    return f"{position:03d}_{safe or 'layer'}.npz"


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that is renamed to it at the end, or removed on any error."""
    if path.exists():
        raise FileExistsError(0, "it exists already; give the name of a new folder")
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    partial.mkdir()
    try:
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
