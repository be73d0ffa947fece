"""Codes of the integer session against onnxruntime's, on real samples of seven networks.

Per op family: codes that differ given equal inputs, in both arithmetics; codes in which onnxruntime
disagrees with itself (the layer cut out of the file, fully optimized against not at all: integer
kernels against DequantizeLinear, the float op and QuantizeLinear). Then whether the final codes are
identical, and the predicted classes on all validation pictures.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import zoo
from benchmarks.zoo import CALIBRATION_PICTURES, NETWORKS, Network, has_zoo, pictures, sounds
from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import integer_engine, onnxruntime_engine
from quantkit.evaluation.integer_layers import integer_layers
from quantkit.evaluation.oracle import open_oracle
from quantkit.evaluation.side_by_side import verify
from quantkit.evaluation.verification import CodeDifference, LayerVerification, Verification
from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import between, open_session
from quantkit.integer_session import open_integer_session
from quantkit.passes.fold_constants import infer_shapes
from quantkit.pipeline import load_quantized, quantize

SAMPLES = 32
SELF_SAMPLES = 8  # for onnxruntime against itself

Data = Callable[[Network, str, int | None], Dataset]
SUBJECTS: tuple[tuple[Network, Data, str], ...] = (
    *((network, pictures, "validation") for network in NETWORKS),
    (zoo.RESNET8, pictures, "validation"),
    (zoo.DS_CNN, sounds, "evaluation"),
    (zoo.AUTOENCODER, sounds, "evaluation"),
    (zoo.WAKE_WORDS, pictures, "validation"),
    (zoo.HAND_LANDMARK, pictures, "validation"),
)


def main() -> int:
    """Print the counts per network and arithmetic; 1 if a network fails."""
    if not has_zoo():
        return 0
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for network, data, kind in SUBJECTS:
            path = Path(folder) / network.file
            quantize(network.path, data(network, "calibration", CALIBRATION_PICTURES)).save(path)
            passed &= _judge(network.title, path, data(network, kind, SAMPLES))
            if network in NETWORKS:
                _classes(network, path)
    for path in zoo.quantized_files():
        inputs = load_quantized(path).prepared.program.inputs
        dataset = open_dataset(
            zoo.zoo() / "imagenet" / "validation",
            inputs,
            preprocessing=PRESETS["imagenet"],
            num_samples=SAMPLES,
        )
        passed &= _judge(path.name, path, dataset)
    print(f"\nExactness: {'PASS' if passed else 'FAIL'}")
    return 0 if passed else 1


def _judge(title: str, path: Path, dataset: Dataset) -> bool:
    """Verify one file in both arithmetics."""
    found = {
        arithmetic: verify(path, load_quantized(path), dataset, arithmetic=arithmetic)
        for arithmetic in ("onnxruntime", "fixed_point")
    }
    first = found["onnxruntime"]
    print(f"\n{title}: {'PASS' if first.passed else 'FAIL'}, {first.samples} samples")
    itself = _against_itself(path, dataset)
    layers = {arithmetic: _families(verification) for arithmetic, verification in found.items()}
    for family, members in layers["onnxruntime"].items():
        alone = [layer.isolated for layer in members]
        ties = sum(difference.ties for difference in alone)
        fixed_point = [layer.isolated for layer in layers["fixed_point"][family]]
        print(
            f"  {family}: {len(members)} nodes, {_total(alone):,} codes ({ties:,} ties); differ: "
            f"{_text(alone)}; fixed_point {_text(fixed_point)}; "
            f"the op in floats {_text([layer.float_reference for layer in members])}; "
            f"onnxruntime unoptimized {_text(itself[members[0].op_type])}"
        )
    for arithmetic, verification in found.items():
        print(f"  end to end, {arithmetic}: {_end_to_end(verification)}")
    for name, reason in first.float_islands.items():
        print(f"  float: {name}: {reason}")
    for name, reason in first.not_compared.items():
        print(f"  not compared: {name}: {reason}")
    return all(verification.passed for verification in found.values())


def _families(found: Verification) -> dict[str, list[LayerVerification]]:
    families: dict[str, list[LayerVerification]] = defaultdict(list)
    for layer in found.layers:
        families[f"{layer.op_type} [{layer.remark}]" if layer.remark else layer.op_type].append(
            layer
        )
    return families


def _end_to_end(found: Verification) -> str:
    accumulated = [layer.accumulated for layer in found.layers]
    outputs = (
        "outputs identical"
        if not found.differing_outputs
        else f"{found.differing_outputs:,} of {found.output_values:,} output values differ"
    )
    first = found.first_divergence
    why = "" if first is None else f"; first {first.node!r} ({first.op_type}): {first.reason}"
    return f"{outputs}; codes that differ on the way: {_text(accumulated)}{why}"


def _total(differences: Sequence[CodeDifference]) -> int:
    return sum(difference.total for difference in differences)


def _text(differences: Sequence[CodeDifference]) -> str:
    wrong = sum(difference.mismatches for difference in differences)
    if not wrong:
        return "0"
    largest = max(difference.largest for difference in differences)
    share = 100 * wrong / _total(differences)
    return f"{wrong:,} ({share:.4f} %, by up to {largest})"


def _against_itself(path: Path, dataset: Dataset) -> dict[str, list[CodeDifference]]:
    """Per op type: every layer cut out of the file, optimized against not optimized."""
    model = load_quantized(path)
    layers = integer_layers(open_integer_session(model), model)
    recorded = []
    oracle = None
    for batch in batches(dataset, 1):
        oracle = oracle or open_oracle(path, model, layers, batch.arrays)
        recorded.append(oracle.codes(batch.arrays)[0])
        if len(recorded) == SELF_SAMPLES:
            break
    file = load_model(path)
    infer_shapes(file)
    found: dict[str, list[CodeDifference]] = defaultdict(list)
    for layer in layers:
        tensors = model.code_tensors
        if not all(name in recorded[0] for name in (*layer.data, *layer.outputs)):
            continue
        inputs = {tensors[name]: model.plan.params[name].dtype for name in layer.data}
        cut = between(file, inputs, [tensors[name] for name in layer.outputs])
        optimized, plain = open_session(cut), open_session(cut, optimized=False)
        difference = CodeDifference()
        for codes in recorded:
            feeds = {tensors[name]: codes[name] for name in layer.data}
            expected = optimized.run(feeds)
            for name, array in plain.run(feeds).items():
                difference.add(array, expected[name])
        found[layer.node.op_type].append(difference)
    return found


def _classes(network: Network, path: Path) -> None:
    engines = [
        onnxruntime_engine("onnxruntime", path),
        integer_engine("integer session", load_quantized(path)),
    ]
    dataset = pictures(network, "validation")
    start = time.perf_counter()
    scores = evaluate(engines, dataset).engines[1]
    seconds = time.perf_counter() - start
    assert scores.agrees is not None
    same = int(np.sum(scores.agrees))
    print(
        f"  same class as onnxruntime on {same} of {scores.agrees.size} pictures "
        f"({100 * same / scores.agrees.size:.2f} %), output SQNR "
        f"{min(scores.sqnr_db.values())} dB; {seconds:.0f} s with decoding"
    )


if __name__ == "__main__":
    sys.exit(main())
