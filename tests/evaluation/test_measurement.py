"""Samples read once, or again where they do not fit; variants judged against the float network."""

import math

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.calibration.dataset import Dataset
from quantkit.errors import CalibrationError
from quantkit.evaluation import measurement
from quantkit.evaluation.measurement import measure, open_bench
from quantkit.evaluation.metric import metric_of
from quantkit.evaluation.samples import open_samples
from quantkit.passes.prepare import prepare
from tests.tuned_network import planted_network, samples


def dataset(model: ir.Model, count: int = 20) -> Dataset:
    return open_samples(samples(count), prepare(model).program.inputs, None)


def louder(model: ir.Model) -> ir.Model:
    """The same with other weights at the end."""
    copy = model.clone()
    value = copy.graph.initializers["w4"]
    assert value.const_value is not None
    array = value.const_value.numpy() * np.float32(1.1)
    value.const_value = ir.tensor(array, name="w4")
    return copy


def test_the_float_network_is_the_reference() -> None:
    model = planted_network()
    bench = open_bench(dataset(model), model, None, metric_of("agreement"))
    assert bench.count == 20
    assert bench.float_measurement.value == 100.0
    assert bench.float_measurement.sqnr_db == math.inf
    found = measure(bench, louder(model))
    assert found.value == 100.0
    assert found.sqnr_db == pytest.approx(20.0, abs=1e-3)
    assert found.counts is None


def test_samples_that_do_not_fit_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted_network()
    kept = open_bench(dataset(model), model, None, metric_of("sqnr"))
    assert kept.read() is kept.read()
    monkeypatch.setattr(measurement, "_MOST_BYTES", 1)
    streamed = open_bench(dataset(model), model, None, metric_of("sqnr"))
    assert streamed.read() is not streamed.read()
    assert measure(streamed, louder(model)) == measure(kept, louder(model))


def test_a_fixed_batch_is_not_counted_twice() -> None:
    model = planted_network()
    model.graph.inputs[0].shape = ir.Shape((8, 3, 8, 8))
    labels = np.zeros(20, np.int64)
    bench = open_bench(dataset(model), model, labels, metric_of("top1"))
    found = measure(bench, model)
    assert found.counts is not None
    assert found.counts.total == bench.count == 20
    assert found == bench.float_measurement


def test_a_label_that_is_no_class() -> None:
    model = planted_network()
    labels = np.full(20, 4, np.int64)
    with pytest.raises(CalibrationError, match="is 4, but the network has the 4 classes 0 to 3"):
        open_bench(dataset(model), model, labels, metric_of("top1"))
