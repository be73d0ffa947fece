"""The formulas of the golden vectors' index."""

import pytest

from quantkit.exporters.vector_index import formula, readme
from quantkit.ops.contract import OPS


def index_of(op: str) -> str:
    layer = {
        "file": "000.npz",
        "node": "n",
        "op": op,
        "formula": formula(op, ()),
        "arrays": {},
    }
    return readme({"samples": "none", "layers": [layer], "float_islands": {}})


@pytest.mark.parametrize(
    "op",
    [
        *("Add", "AveragePool", "Concat", "Conv", "ConvTranspose", "Div", "Gemm"),
        *("GlobalAveragePool", "LayerNormalization", "MatMul", "MaxPool", "Mul", "PRelu"),
        *("ReduceMean", "Resize", "Softmax", "Sub", "Where"),
    ],
)
def test_ops_that_compute_have_a_formula(op: str) -> None:
    assert op in OPS
    formulas = index_of(op).split("## Formulas")[1].split("## Layers")[0]
    assert formulas.lstrip().startswith(f"{op}:")
    assert "output_0" in formulas
    # Indented as code, or a sentence; never wider than the page.
    assert max(len(line) for line in formulas.splitlines()) <= 100
