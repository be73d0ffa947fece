from pathlib import Path

import numpy as np

from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.qdq_texts import write


def test_code_dtype_without_a_zero_point(tmp_path: Path) -> None:
    changes = {
        "xq": "xq = QuantizeLinear<output_dtype = 3>(x, xs)",
        "xd": "xd = DequantizeLinear(xq, xs)",
    }
    model = read_qdq(write(tmp_path, changes, opset=21))
    assert model.plan.params["x"].dtype == np.int8


def test_output_dtype_of_a_dequantizer_is_that_of_its_real_values(tmp_path: Path) -> None:
    changes = {"xd": "xd = DequantizeLinear<output_dtype = 1>(xq, xs, xz)"}
    assert not read_qdq(write(tmp_path, changes, opset=23)).plan.kept_float
