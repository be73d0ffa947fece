"""A small network with planted defects, and what a remedy makes of it, in onnxruntime."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

import quantkit
from quantkit.config import QuantConfig
from quantkit.evaluation.measurement import measure, open_bench
from quantkit.evaluation.metric import metric_of
from quantkit.evaluation.samples import open_samples
from quantkit.graph.program import Array
from quantkit.passes.prepare import prepare
from quantkit.pipeline import report
from quantkit.pipeline.remedies import with_changes
from quantkit.reporting.report import Cause
from tests.small_networks import float_model

TEXT = """(float[N, 3, 10, 10] x, float[16, 3, 3, 3] w1, float[16] b1, float[16, 16, 3, 3] w2,
    float[16] b2, float[16, 16, 1, 1] w3, float[16] b3, float[16, 16, 3, 3] w4, float[16] b4,
    float[6, 16] w5, float[6] b5) => (float[N, 6] scores) {
    [first] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    [first_relu] r1 = Relu (h1)
    [second] h2 = Conv <pads = [1, 1, 1, 1]> (r1, w2, b2)
    [second_relu] r2 = Relu (h2)
    [third] h3 = Conv (r2, w3, b3)
    [add] s = Add (r1, h3)
    [add_relu] r3 = Relu (s)
    [fourth] h4 = Conv (r3, w4, b4)
    [fourth_relu] r4 = Relu (h4)
    [pool] p = GlobalAveragePool (r4)
    [flat] f = Flatten (p)
    [last] scores = Gemm <transB = 1> (f, w5, b5)
}"""
CONCAT = TEXT.replace("s = Add (r1, h3)", "s = Concat <axis = 1> (r1, h3)").replace(
    "float[16, 16, 3, 3] w4", "float[16, 32, 3, 3] w4"
)
AS_IT_IS = QuantConfig(
    cross_layer_equalization=False, linear_edge_equalization=False, high_bias_absorption=False
)
PER_TENSOR = AS_IT_IS.model_copy(update={"per_channel": False})


def healthy(join: int = 16) -> dict[str, Array]:
    """Weights as training leaves them: channels alike, noise averaged out."""
    rng = np.random.default_rng(7)
    shapes = {
        "w1": (16, 3, 3, 3),
        "w2": (16, 16, 3, 3),
        "w3": (16, 16, 1, 1),
        "w4": (16, join, 3, 3),
        "w5": (6, 16),
    }
    weights = {
        name: rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)
        for name, shape in shapes.items()
    }
    return weights | {f"b{i}": rng.normal(0.0, 0.1, shapes[f"w{i}"][0]) for i in range(1, 6)}


def samples(count: int, seed: int = 1) -> Array:
    """Correlated as pictures are."""
    noise = np.random.default_rng(seed).normal(size=(count, 3, 12, 12))
    smooth = sum(noise[..., i : i + 10, j : j + 10] for i in range(3) for j in range(3))
    return np.asarray(smooth / 3.0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A float file, a quantized one, and how that was made."""

    floating: Path
    quantized: Path
    config: QuantConfig

    def causes(self) -> tuple[Cause, ...]:
        """What the report names."""
        found = report(
            self.floating, self.quantized, samples(32, seed=5), with_integer_session=False
        )
        return found.causes

    def sqnr_db(self, model: Path) -> float:
        """Of the outputs in onnxruntime, on samples that nothing was chosen on."""
        prepared = prepare(self.floating)
        data = open_samples(samples(64, seed=9), prepared.program.inputs, None)
        bench = open_bench(data, prepared.model, None, metric_of("sqnr"))
        return measure(bench, model).sqnr_db

    def gain_db(self, cause: Cause) -> float:
        """By how much the remedy, applied, raises it."""
        repaired = self.floating.with_name("repaired.onnx")
        config = with_changes(self.config, [cause.remedy.config])
        quantkit.quantize(self.floating, samples(64, seed=2), config=config).save(repaired)
        return self.sqnr_db(repaired) - self.sqnr_db(self.quantized)


def plant(
    folder: Path,
    constants: dict[str, Array],
    config: QuantConfig,
    *,
    text: str = TEXT,
    calibration: Array | None = None,
) -> Planted:
    """Write the network and quantize it."""
    floating, quantized = folder / "float.onnx", folder / "int8.onnx"
    ir.save(float_model(text, constants=constants), floating)
    data = samples(64, seed=2) if calibration is None else calibration
    quantkit.quantize(floating, data, config=config).save(quantized)
    return Planted(floating, quantized, config)
