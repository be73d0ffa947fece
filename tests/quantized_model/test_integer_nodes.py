from pathlib import Path

import pytest

from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.qdq_texts import check, write


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bs": "float[2] bs = {0.02, 0.01}"}, "the scale of its bias 'b' is not that of input"),
        ({"bz": "int32[2] bz = {0, 1}"}, "its bias 'b' has a zero point other than 0"),
        (
            {"c": "[conv] d = Conv(xd, wd, bd) c = Relu(d)"},
            "'d' is not quantized in the file",
        ),
        (
            {"yq": "", "yd": "", "c": "[conv] y = Conv(xd, wd, bd)"},
            "'y' is not quantized in the file",
        ),
    ],
)
def test_float_islands_have_reasons(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    model = read_qdq(write(tmp_path, changes))
    assert reason in model.plan.kept_float["conv"]


def test_a_weight_along_the_wrong_axis_stays_float(tmp_path: Path) -> None:
    """onnxruntime fuses it all the same, and computes something else than the file says."""
    square = "int8[3,3,1,1] w_quantized = {10, -20, 127, -127, 64, 3, 1, 2, 3}"
    changes = {
        "w": square,
        "ws": "float[3] ws = {0.02, 0.01, 0.04}",
        "wz": "int8[3] wz = {0, 0, 0}",
        "wd": "wd = DequantizeLinear<axis = 1>(w_quantized, ws, wz)",
        "bd": "",
        "c": "[conv] c = Conv(xd, wd)",
    }
    model = read_qdq(write(tmp_path, changes, outputs="float[N,3,6,6] y"))
    assert model.plan.kept_float == {
        "conv": "its weight 'w' is quantized along axis 1; output channels are axis 0"
    }


def test_clip_bounds_may_be_quantized_constants(tmp_path: Path) -> None:
    """AIMET quantizes the bounds of a Clip too."""
    changes = {
        "c": """[conv] d = Conv(xd, wd, bd)
                d1 = QuantizeLinear(d, ys, yz)
                d2 = DequantizeLinear(d1, ys, yz)
                l1 = QuantizeLinear(low, ls, lz)
                l2 = DequantizeLinear(l1, ls, lz)
                c = Clip(d2, l2)""",
        "+low": "float low = {-0.5}, float ls = {0.004}, uint8 lz = {128}",
    }
    model = check(write(tmp_path, changes), kept_float=set())
    assert [node.op_type for node in model.prepared.program.nodes] == ["Conv", "Clip"]
