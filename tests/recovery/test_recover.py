"""All steps in their order: each alone, all but each, with and without data."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit import bundled
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.config import QuantConfig
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recipes import ACCURATE, BALANCED, FAST
from quantkit.recovery.channel_changes import METADATA_KEY, from_text
from quantkit.recovery.draft import Draft
from quantkit.recovery.recover import quantize_with_recovery
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.recovery.rewritings import CASES, SAMPLES, draft_of
from tests.small_networks import NETWORKS, random_feeds

STEPS = (
    "bias_correction",
    "cross_layer_equalization",
    "linear_edge_equalization",
    "high_bias_absorption",
    "activation_range_search",
    "weight_scale_search",
    "learned_rounding",
    "empirical_bias_correction",
    "block_reconstruction",
)
NOTHING = QuantConfig.model_validate(dict.fromkeys(STEPS, False))
EVERYTHING = QuantConfig.model_validate(dict.fromkeys(STEPS, True))


def with_step(config: QuantConfig, name: str, value: bool) -> QuantConfig:
    return config.model_copy(update={name: value})


@cache
def network(name: str) -> tuple[Draft, Dataset, dict[str, Array]]:
    if name in CASES:
        draft, shape = CASES[name].draft(), CASES[name].input_shape
    else:
        draft, shape = (
            draft_of(NETWORKS[name].model(), NETWORKS[name].input_shape),
            (NETWORKS[name].input_shape),
        )
    feeds = random_feeds(draft.prepared.model, shape, SAMPLES, seed=7)
    return draft, open_dataset(feeds, draft.prepared.program.inputs, preprocessing=None), feeds


def recovered(name: str, config: QuantConfig) -> QuantizedModel:
    draft, dataset, _ = network(name)
    data = dataset if config.steps_with_data() else None
    return quantize_with_recovery(draft.prepared, draft.table, config, data)


def step_notes(model: QuantizedModel) -> list[str]:
    return [note.pass_name for note in model.notes if not note.node]


def sqnr(prepared: Prepared, model: QuantizedModel, feeds: dict[str, Array]) -> float:
    real = open_session(prepared.model).run(feeds)
    found = open_session(qdq_graph(model)).run(feeds)
    name = prepared.program.outputs[0].name
    error = np.square(real[name] - found[name], dtype=np.float64).sum()
    return float(10 * np.log10(np.square(real[name], dtype=np.float64).sum() / error))


@pytest.mark.parametrize("name", ["mobile", "residual"])
@pytest.mark.parametrize("step", STEPS)
def test_each_step_alone_and_all_but_it(name: str, step: str) -> None:
    draft, _, feeds = network(name)
    for config in (with_step(NOTHING, step, True), with_step(EVERYTHING, step, False)):
        model = recovered(name, config)
        found = step_notes(model)
        assert set(found) <= {each for each in STEPS if getattr(config, each)}
        assert found == sorted(found, key=STEPS.index)
        check_equals_onnxruntime(model, qdq_graph(model), feeds)
        assert sqnr(draft.prepared, model, feeds) > 15.0


def test_nothing_is_the_plain_quantization() -> None:
    model = recovered("mobile", NOTHING)
    assert step_notes(model) == []
    assert METADATA_KEY not in model.metadata


def test_steps_say_what_they_gained_where_data_are_used() -> None:
    for config, tells in ((FAST, False), (BALANCED, True), (ACCURATE, True)):
        model = recovered("mobile", config)
        notes = [note for note in model.notes if not note.node]
        assert step_notes(model) == sorted(step_notes(model), key=STEPS.index)
        assert len(notes) >= 3
        for note in notes:
            assert ("SQNR of the outputs " in note.message) == tells, note


def same(first: QuantizedModel, second: QuantizedModel) -> bool:
    assert first.constants.keys() == second.constants.keys()
    return (
        all(
            np.array_equal(first.constants[name].data, second.constants[name].data)
            for name in first.constants
        )
        and first.notes == second.notes
        and dict(first.metadata) == dict(second.metadata)
        and {n: float(p.scale) for n, p in first.plan.params.items()}
        == {n: float(p.scale) for n, p in second.plan.params.items()}
    )


@pytest.mark.parametrize("config", [FAST, BALANCED, ACCURATE], ids=["fast", "balanced", "accurate"])
def test_the_same_result_twice(config: QuantConfig) -> None:
    assert same(recovered("mobile", config), recovered("mobile", config))


@pytest.mark.parametrize("name", ["other_ops", "softmax", "two_activations", "graph_output"])
@pytest.mark.parametrize("config", [FAST, EVERYTHING], ids=["fast", "everything"])
def test_networks_with_nothing_to_equalize(name: str, config: QuantConfig) -> None:
    model = recovered(name, config)
    assert not {"cross_layer_equalization", "linear_edge_equalization"} & set(step_notes(model))
    assert METADATA_KEY not in model.metadata
    check_equals_onnxruntime(model, qdq_graph(model), network(name)[2])


@pytest.mark.parametrize("config", [FAST, EVERYTHING], ids=["fast", "everything"])
def test_where_all_stays_float(config: QuantConfig) -> None:
    draft, _, feeds = network("relu")
    config = config.model_copy(update={"op_types_to_quantize": ("Relu",)})
    model = recovered("relu", config)
    assert len(model.plan.kept_float) == len(draft.prepared.program.nodes)
    real, found = (
        open_session(each).run(feeds)["y"] for each in (draft.prepared.model, qdq_graph(model))
    )
    np.testing.assert_allclose(found, real, rtol=1e-5, atol=1e-5 * np.abs(real).max())


def test_float_islands_are_rewritten_too() -> None:
    """A layer that stays float has its rows and columns scaled with the others."""
    _, _, feeds = network("mobile")
    for node in ("depthwise", "project", "classes"):
        config = EVERYTHING.model_copy(update={"nodes_to_exclude": (node,)})
        model = recovered("mobile", config)
        assert node in model.plan.kept_float
        check_equals_onnxruntime(model, qdq_graph(model), feeds)
        assert sqnr(network("mobile")[0].prepared, model, feeds) > 15.0


def test_one_sample() -> None:
    draft, dataset, feeds = network("mobile")
    one = {name: array[:1] for name, array in feeds.items()}
    table = quantkit.calibrate(draft.prepared, one)
    model = quantize_with_recovery(draft.prepared, table, EVERYTHING, dataset.take([0]))
    check_equals_onnxruntime(model, qdq_graph(model), one)
    assert "SQNR of the outputs" in model.notes[0].message


def test_progress_tells_the_steps_with_data() -> None:
    draft, dataset, _ = network("mobile")
    told: dict[str, list[tuple[int, int]]] = {}

    def progress(step: str, done: int, total: int) -> None:
        told.setdefault(step, []).append((done, total))

    quantize_with_recovery(draft.prepared, draft.table, ACCURATE, dataset, progress)
    assert list(told) == list(ACCURATE.steps_with_data())
    for calls in told.values():
        assert calls[-1][0] == calls[-1][1]


def test_metadata_tell_the_changes() -> None:
    model = recovered("residual", FAST)
    changes = from_text(model.metadata[METADATA_KEY])
    assert changes
    assert all((change.factors > 0).all() for change in changes.values())


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
def test_the_exported_file_is_verified(tmp_path: Path, format: str) -> None:
    with bundled.folder() as folder:
        model, data = folder / "digits_mobilenet.onnx", folder / "digits_calibration.npz"
        for name, config in {"fast": FAST, "balanced": BALANCED}.items():
            result = quantkit.quantize(model, data, config=config, num_samples=16)
            result.save(tmp_path / f"{name}.onnx", format)
            assert quantkit.verify(tmp_path / f"{name}.onnx", data, num_samples=4).passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("kws_dscnn", (1, 49, 10)),
        ("resnet8_cifar10", (3, 32, 32)),
        ("mobilenet_v1_025", (3, 224, 224)),
    ],
)
@pytest.mark.parametrize("config", [FAST, BALANCED], ids=["fast", "balanced"])
def test_real_networks_are_verified(
    zoo: Path, tmp_path: Path, name: str, shape: tuple[int, ...], config: QuantConfig
) -> None:
    data = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype(np.float32)
    result = quantkit.quantize(zoo / "models" / f"{name}.onnx", data, config=config)
    result.save(tmp_path / "int8.onnx")
    assert quantkit.verify(tmp_path / "int8.onnx", data[:2]).passed
