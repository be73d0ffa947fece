"""What a network costs and what would run in integers, before any data."""

from pathlib import Path

from quantkit.errors import QuantkitError, UnsupportedModelError
from quantkit.graph.model_io import load_model
from quantkit.passes.prepare import prepare
from quantkit.pipeline.quantization import read_quantized
from quantkit.plan import candidate_refusals
from quantkit.reporting.inspection import Inspection, inspection


def inspect_model(path: str | Path) -> Inspection:
    """Inspect a float model; of a quantized one, say what is in integers and who made it.

    Args:
        path: An ONNX file.

    Raises:
        ModelError: The file cannot be read.
        UnsupportedModelError: It can neither be quantized nor read as a quantized model.
    """
    path = Path(path)
    try:
        prepared = prepare(path)
    except UnsupportedModelError as error:
        try:
            model = read_quantized(path)
        except QuantkitError:
            raise error from None
        version = model.metadata.get("version")
        return inspection(
            path,
            model.prepared,
            model.plan.kept_float,
            codes={name: params.dtype for name, params in model.plan.params.items()},
            quantized_by=f"quantkit {version}" if version else load_model(path).producer_name or "",
        )
    return inspection(path, prepared, candidate_refusals(prepared))
