"""Train the bundled MobileNet on 8x8 digits with quantkit's float reference, and write its files.

    python calib_data/train_digits.py [--output FOLDER]

writes ``digits_mobilenet.onnx``, ``digits_calibration.npz`` and ``digits_evaluation.npz``.
Everything is seeded: on one machine the same bits come out every time.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from sklearn.datasets import load_digits

from quantkit.reference import mobilenet
from quantkit.reference.arrays import FloatArray
from quantkit.reference.loss import softmax_cross_entropy, softmax_cross_entropy_backward
from quantkit.reference.mobilenet import BlockSpec, MobileNetSpec, Parameters
from quantkit.reference.sgd import sgd_step

SPEC = MobileNetSpec(
    input_channels=1,
    classes=10,
    stem_channels=16,
    blocks=(BlockSpec(32), BlockSpec(64, stride=2), BlockSpec(64), BlockSpec(128)),
)
SPLIT_SEED, WEIGHT_SEED, BATCH_SEED = 0, 1, 2
TRAINING_COUNT, CALIBRATION_COUNT = 1200, 100
EPOCHS, BATCH_SIZE = 90, 60
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.5, 0.9, 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Preprocessed pictures.

    Attributes:
        input: ``grey / 16``, in [0, 1], float32, (N, 1, 8, 8).
        label: The digit, int64, (N,).
    """

    input: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]


def load_split() -> tuple[Pictures, Pictures, Pictures]:
    """Divide the 1,797 pictures by a seeded permutation.

    Returns:
        Training (1,200), calibration (100) and evaluation (497) pictures.
    """
    digits = load_digits()
    pictures = (digits.images / 16).astype(np.float32)[:, np.newaxis]
    label = digits.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(label))
    ends = [TRAINING_COUNT, TRAINING_COUNT + CALIBRATION_COUNT]
    training, calibration, evaluation = (
        Pictures(pictures[rows], label[rows]) for rows in np.split(order, ends)
    )
    return training, calibration, evaluation


def train(pictures: Pictures, *, epochs: int = EPOCHS) -> Parameters:
    """Train with momentum and a learning rate that falls to 0 along half a cosine.

    Weight decay pulls on weights only, not on batch normalization and not on depthwise filters;
    source: Howard et al. 2017, arXiv:1704.04861, section 3.2.

    Args:
        pictures: The training set.
        epochs: Passes over it.

    Returns:
        The trained parameters, float32.
    """
    generator = np.random.default_rng(BATCH_SEED)
    parameters = mobilenet.initial_parameters(SPEC, seed=WEIGHT_SEED)
    velocities: Parameters = {}
    for epoch in range(epochs):
        order = generator.permutation(len(pictures.label))
        batches = np.array_split(order, len(order) // BATCH_SIZE)
        losses = []
        for index, rows in enumerate(batches):
            progress = (epoch + index / len(batches)) / epochs
            label = pictures.label[rows]
            training = mobilenet.forward_training(
                SPEC, parameters, shift_randomly(pictures.input[rows], generator)
            )
            losses.append(softmax_cross_entropy(training.logits, label))
            gradients = mobilenet.backward(
                SPEC, parameters, training, softmax_cross_entropy_backward(training.logits, label)
            )
            parameters, velocities = sgd_step(
                {**parameters, **training.running},
                gradients,
                velocities,
                learning_rate=LEARNING_RATE * (1 + math.cos(math.pi * progress)) / 2,
                momentum=MOMENTUM,
                weight_decay=WEIGHT_DECAY,
                is_decayed=lambda name: name.endswith("weight") and "depthwise" not in name,
            )
        print(f"epoch {epoch + 1:2d} of {epochs}: loss {np.mean(losses):.4f}", flush=True)
    return parameters


def shift_randomly(x: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Move every picture by -1, 0 or 1 pixel on both axes; zeros come in at the border.

    Args:
        x: (N, C, H, W).
        generator: Source of the moves.

    Returns:
        Shaped and typed like ``x``.
    """
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    tops, lefts = generator.integers(0, 3, (2, len(x)))
    moved = [
        picture[:, top : top + height, left : left + width]
        for picture, top, left in zip(padded, tops, lefts, strict=True)
    ]
    return np.stack(moved)


def accuracy(parameters: Parameters, pictures: Pictures) -> float:
    """The share of pictures classified correctly.

    Args:
        parameters: The network's.
        pictures: The pictures to classify.

    Returns:
        In [0, 1].
    """
    logits = mobilenet.forward(SPEC, parameters, pictures.input)
    return float(np.mean(logits.argmax(axis=1) == pictures.label))


def folded_range_ratios(parameters: Parameters) -> dict[str, float]:
    """How uneven each layer's channels are once batch normalization is folded into the weights.

    Args:
        parameters: The network's.

    Returns:
        By layer name: the largest ``max |weight|`` of an output channel over the smallest.
    """
    ratios = {}
    for layer in SPEC.layers():
        scale, var = (parameters[f"{layer.name}/bn/{name}"] for name in ("scale", "running_var"))
        weight = parameters[f"{layer.name}/conv/weight"]
        ranges = np.abs(weight).max(axis=(1, 2, 3)) * np.abs(scale) / np.sqrt(var + SPEC.epsilon)
        ratios[layer.name] = float(ranges.max() / ranges.min())
    return ratios


def build_model(parameters: Parameters) -> ir.Model:
    """Write the network down as ONNX, batch normalization unfolded, ReLU6 as Clip.

    Args:
        parameters: The network's; they keep their names as initializers.

    Returns:
        An opset 17 model: ``input`` (N, 1, 8, 8) to ``logits`` (N, 10), float32.
    """
    float32 = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="input", type=float32, shape=ir.Shape(("N", SPEC.input_channels, 8, 8)))
    graph = ir.Graph([x], [], nodes=[], name="digits_mobilenet", opset_imports={"": 17})

    def constant(name: str, value: FloatArray) -> ir.Value:
        tensor = ir.tensor(value, name=name)
        initializer = ir.Value(
            name=name, type=float32, shape=ir.Shape(value.shape), const_value=tensor
        )
        graph.register_initializer(initializer)
        return initializer

    def append(
        op_type: str,
        name: str,
        inputs: Sequence[ir.Value],
        **attributes: int | float | Sequence[int],
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, name=name)
        graph.append(node)
        output = node.outputs[0]
        output.name, output.type = f"{name}/output", float32
        return output

    zero = constant("relu6/minimum", np.zeros((), np.float32))
    six = constant("relu6/maximum", np.full((), 6, np.float32))
    for layer in SPEC.layers():
        name = layer.name
        weight = constant(f"{name}/conv/weight", parameters[f"{name}/conv/weight"])
        kernel_shape = (layer.kernel, layer.kernel)
        x = append(
            "Conv", f"{name}/conv", [x, weight], kernel_shape=kernel_shape, **layer.attributes
        )
        vectors = [
            constant(f"{name}/bn/{vector}", parameters[f"{name}/bn/{vector}"])
            for vector in ("scale", "bias", "running_mean", "running_var")
        ]
        x = append("BatchNormalization", f"{name}/bn", [x, *vectors], epsilon=SPEC.epsilon)
        x = append("Clip", f"{name}/relu6", [x, zero, six])
    x = append("GlobalAveragePool", "global_average_pool", [x])
    x = append("Flatten", "flatten", [x], axis=1)
    classifier = [
        constant(f"classifier/{vector}", parameters[f"classifier/{vector}"])
        for vector in ("weight", "bias")
    ]
    logits = append("Gemm", "classifier", [x, *classifier], transB=1)
    logits.name, logits.shape = "logits", ir.Shape(("N", SPEC.classes))
    graph.outputs.append(logits)
    return ir.Model(graph, ir_version=8, producer_name="quantkit calib_data/train_digits.py")


def write_files(parameters: Parameters, folder: Path) -> None:
    """Write the model, the calibration pictures and the evaluation pictures.

    Args:
        parameters: The network's.
        folder: Where to; made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ir.save(build_model(parameters), folder / "digits_mobilenet.onnx")
    _, calibration, evaluation = load_split()
    np.savez_compressed(folder / "digits_calibration.npz", input=calibration.input)
    np.savez_compressed(
        folder / "digits_evaluation.npz", input=evaluation.input, label=evaluation.label
    )


def main() -> None:
    """Train, print what was reached, write the files."""
    parser = argparse.ArgumentParser(description="Train the bundled MobileNet on 8x8 digits.")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder to write to"
    )
    arguments = parser.parse_args()

    training, _, evaluation = load_split()
    started = time.perf_counter()
    parameters = train(training)
    print(f"trained in {time.perf_counter() - started:.0f} s")
    print(f"training accuracy   {accuracy(parameters, training):.2%}")
    print(f"evaluation accuracy {accuracy(parameters, evaluation):.2%}")
    print("largest over smallest channel range after folding batch normalization:")
    for name, ratio in folded_range_ratios(parameters).items():
        print(f"  {name:20} {ratio:10.4g}")
    write_files(parameters, arguments.output)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
