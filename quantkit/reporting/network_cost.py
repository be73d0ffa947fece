"""What a network needs before and after quantization: work, memory, time, size."""

from pathlib import Path

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.evaluation.file_boundaries import file_inputs
from quantkit.evaluation.integer_share import measured_mac_percent
from quantkit.graph.activation_memory import peak_activation_bytes
from quantkit.graph.cost import model_cost
from quantkit.graph.ort_session import median_latencies_ms
from quantkit.reporting.provenance import external_data
from quantkit.reporting.report import Cost
from quantkit.reporting.subject import Subject


def network_cost(subject: Subject) -> Cost:
    """Multiply-accumulates, the share of them in integers, and activation memory.

    Raises:
        ModelError: onnxruntime cannot load the quantized file.
    """
    reference, prepared = subject.reference, subject.model.prepared
    cost = model_cost(prepared.program)
    codes = {name: params.dtype for name, params in subject.model.plan.params.items()}
    return Cost(
        macs=None if cost.unknown else cost.macs,
        int8_mac_percent=measured_mac_percent(subject.quantized_path, prepared.program),
        float_peak_bytes=(
            None
            if reference is None
            else peak_activation_bytes(reference.program, reference.clamps)
        ),
        int8_peak_bytes=peak_activation_bytes(prepared.program, prepared.clamps, codes),
    )


def latencies_ms(subject: Subject, dataset: Dataset) -> dict[str, float]:
    """Median latency of the first sample, by engine that runs a file.

    Raises:
        QuantkitError: See ``errors``.
    """
    feeds = next(iter(batches(dataset, 1))).arrays
    files = subject.files()
    return median_latencies_ms(
        files,
        {
            label: file_inputs(subject.model, feeds) if path == subject.quantized_path else feeds
            for label, path in files.items()
        },
    )


def model_bytes(path: Path) -> int:
    """Size of a model, with the weights that lie beside it in ``NAME.data``."""
    external = external_data(path)
    return path.stat().st_size + (external.stat().st_size if external.exists() else 0)
