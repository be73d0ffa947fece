"""Real networks, quantized from two random samples."""

from pathlib import Path

import pytest

from quantkit.graph.model_io import load_model
from quantkit.plan import make_plan
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from tests.small_networks import calibrated

each_real_network = pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("mobilenet_v2", (3, 224, 224)),
        ("mobilenet_v1_025", (3, 224, 224)),
        ("vww_mobilenet_v1", (3, 96, 96)),
        ("resnet8_cifar10", (3, 32, 32)),
        ("kws_dscnn", (1, 49, 10)),
        ("ad_autoencoder", (640,)),
    ],
)


def quantized_real_network(zoo: Path, file: str, shape: tuple[int, ...]) -> QuantizedModel:
    """With no node left in floats."""
    source = load_model(zoo / "models" / f"{file}.onnx")
    prepared, table = calibrated(source, shape, samples=2)
    model = quantize_model(prepared, make_plan(prepared, table))
    assert not model.plan.kept_float
    return model
