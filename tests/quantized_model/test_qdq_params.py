from pathlib import Path

import numpy as np
import pytest

from quantkit.errors import ModelError
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.qdq_texts import QUANTIZED_ON_LOAD, write


def test_code_dtype_without_a_zero_point(tmp_path: Path) -> None:
    changes = {
        "xq": "xq = QuantizeLinear<output_dtype = 3>(x, xs)",
        "xd": "xd = DequantizeLinear(xq, xs)",
    }
    model = read_qdq(write(tmp_path, changes, opset=21))
    assert model.plan.params["x"].dtype == np.int8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xs": "float xs = {0.0}"}, "node 'x_q': a scale must be finite and greater than 0"),
        ({"xs": "float xs = {-1.0}"}, "node 'x_q': a scale must be finite and greater than 0"),
        (
            {"ws": "float[3] ws = {1,1,1}", "wz": "int8[3] wz = {0,0,0}"},
            "node 'w_dq': 3 scales for 2 channels along axis 0",
        ),
        ({"wz": "int8[3] wz = {0,0,0}"}, "node 'w_dq': 3 zero points for 2 scales"),
        ({"wz": "uint8[2] wz = {0, 0}"}, "node 'w_dq': codes are int8, the zero point is uint8"),
        (
            {"wd": "[w_dq] wd = DequantizeLinear<axis = 4>(w_quantized, ws, wz)"},
            "node 'w_dq': axis 4 of a tensor with 4 axes",
        ),
        (
            {"xd": "[x_dq] xd = DequantizeLinear(xq, xs)"},
            "node 'x_dq': its scale and zero point are not those of .* 'x_q'",
        ),
        (
            {"xd": "[x_dq] xd = DequantizeLinear(xq, ys, xz)"},
            "node 'x_dq': its scale and zero point are not those of .* 'x_q'",
        ),
        (
            {"xq": "s = ReduceMax<keepdims = 0>(x) [x_q] xq = QuantizeLinear(x, s, xz)"},
            "node 'x_q': its scale is missing or computed",
        ),
        (
            {"xq": "z2 = Cast<to = 2>(x) [x_q] xq = QuantizeLinear(x, xs, z2)"},
            "node 'x_q': its zero point is computed",
        ),
        (
            {"xq": "xq = Cast<to = 2>(x)"},
            "node 'x_dq': a DequantizeLinear without its counterpart is not supported",
        ),
        (
            {
                "w": "float[2,3,1,1] w = {0.2, -0.4, 2.0, -1.27, 0.6, 0.03}",
                "ws": "float[3] ws = {1,1,1}",
                "wz": "int8[3] wz = {0,0,0}",
                "wd": QUANTIZED_ON_LOAD,
            },
            "node 'w_q': 3 scales for 2 channels along axis 0",
        ),
    ],
)
def test_malformed_nodes_are_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_qdq(write(tmp_path, changes))


def test_a_missing_scale_is_an_invalid_model(tmp_path: Path) -> None:
    changes = {"xq": "[x_q] xq = QuantizeLinear(x)"}
    with pytest.raises(ModelError, match=r"is not a valid ONNX model|node 'x_q'"):
        read_qdq(write(tmp_path, changes))
