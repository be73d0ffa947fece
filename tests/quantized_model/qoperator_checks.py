"""QOperator files: made by onnxruntime's quantizer, or as text; and the check of what is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.models import network
from tests.quantized_model.test_other_tools import Samples

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


def quantize_to_qoperator(
    source: Path, path: Path, feeds: list[dict[str, Array]], **options: Any
) -> None:
    """What onnxruntime's own quantizer makes of a float file; uint8 codes, int8 weights."""
    quantize_static(
        str(source),
        str(path),
        Samples(feeds),
        quant_format=QuantFormat.QOperator,
        **{
            "activation_type": QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
            **options,
        },
    )


def write_text(
    folder: Path,
    body: str,
    constants: Mapping[str, Array],
    *,
    inputs: str,
    outputs: str = "float[N,M] y",
    opset: int = 17,
) -> Path:
    path = folder / "qoperator.onnx"
    ir.save(network(body, constants, inputs=inputs, outputs=outputs, opset=opset), path)
    return path


def check_codes(path: Path, feeds: Mapping[str, Array]) -> QuantizedModel:
    """Every code tensor of the integer session is onnxruntime's, and so is every output."""
    model = read_qdq(path)
    assert model.code_tensors
    shown = open_session(with_outputs(load_model(path), list(model.code_tensors.values()))).run(
        feeds
    )
    session = open_integer_session(model)
    codes = session.run_codes(feeds, list(model.code_tensors))
    for value, tensor in model.code_tensors.items():
        assert codes[value].dtype == shown[tensor].dtype
        np.testing.assert_array_equal(codes[value], shown[tensor], err_msg=tensor)
    outputs = session.run(feeds)
    for name, array in open_session(path).run(feeds).items():
        if outputs[name].dtype == np.float32 and name not in model.plan.params:
            np.testing.assert_allclose(outputs[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(outputs[name], array, err_msg=name)
    return model


def op_types(path: Path) -> set[str]:
    return {node.op_type for node in load_model(path).graph}
