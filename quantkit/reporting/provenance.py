"""Where a report comes from: what could be told apart, and what could be run again."""

import json
import platform
from hashlib import file_digest
from pathlib import Path

import numpy as np

from quantkit.calibration.dataset import Dataset
from quantkit.calibration.table import tool_version
from quantkit.config import config_of
from quantkit.errors import ConfigError
from quantkit.evaluation.accuracy import Evaluation
from quantkit.graph.ort_session import onnxruntime_version
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recipes import recipe_name
from quantkit.recovery.channel_changes import METADATA_KEY

# Said above in words, long, or of the calibration's data.
_NOT_REPEATED = (METADATA_KEY, "kept_float")


def provenance(
    float_path: Path | None,
    quantized_path: Path,
    model: QuantizedModel,
    dataset: Dataset,
    evaluation: Evaluation,
    command: str,
) -> dict[str, str]:
    """Versions, digests, preprocessing, recipe, command line; only what is known.

    Args:
        float_path: The float file, if there is one.
        quantized_path: The quantized file.
        model: The same, as read.
        dataset: The samples.
        evaluation: Knows the digest of those that were read.
        command: The command line; "" where there was none.
    """
    preprocessing = dataset.preprocessing
    facts = {
        "command": command,
        "float model, SHA-256": "" if float_path is None else _sha256(float_path),
        "quantized model, SHA-256": _sha256(quantized_path),
        "data digest": evaluation.data_digest,
        "preprocessing": "" if preprocessing is None else json.dumps(preprocessing.to_json()),
        "recipe": _recipe(model),
        "quantkit": tool_version(),
        "onnxruntime": onnxruntime_version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    stored = {
        f"model.{key}": value
        for key, value in sorted(model.metadata.items())
        if key not in _NOT_REPEATED
    }
    return {**{name: text for name, text in facts.items() if text}, **stored}


def external_data(path: Path) -> Path:
    """Where the weights lie that a model's own file does not hold."""
    return path.with_name(f"{path.name}.data")


def _sha256(path: Path) -> str:
    """Of the file; then, where there is one, of its external data."""
    files = [file for file in (path, external_data(path)) if file.exists()]
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(file_digest(stream, "sha256").hexdigest())
    return " ".join(digests)


def _recipe(model: QuantizedModel) -> str:
    """Its name, where the file tells its configuration and this version understands it."""
    text = model.metadata.get("config")
    if text is None:
        return ""
    try:
        return recipe_name(config_of(json.loads(text), "the model's metadata"))
    except (ValueError, ConfigError):
        return ""
