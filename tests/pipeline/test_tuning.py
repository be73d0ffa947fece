"""``tune`` on a network with a planted culprit, and on the bundled one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantkit import bundled
from quantkit.errors import CalibrationError, ConfigError, UnknownNameError
from quantkit.graph.program import Array
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import Tuning, calibrate, quantize_calibrated, tune
from quantkit.recovery.sensitivity import Keep
from tests.tuned_network import CONFIG, CULPRIT, LAYERS, planted_network, samples

DATA = samples()


@pytest.fixture(scope="module")
def network() -> Prepared:
    return prepare(planted_network())


def facts(found: Tuning) -> Tuning:
    """All but what differs from run to run."""
    points = tuple(replace(point, latency_ms=0.0) for point in found.frontier)
    return replace(
        found,
        frontier=points,
        chosen=replace(found.chosen, latency_ms=0.0),
        float_latency_ms=0.0,
        measurements=0,
        known_measurements=0,
    )


def assert_same(first: Tuning, second: Tuning) -> None:
    one, other = facts(first), facts(second)
    for name in Tuning.__slots__:
        if name != "table":
            assert getattr(one, name) == getattr(other, name), name


def test_exactly_the_ruined_layer_is_kept(network: Prepared) -> None:
    found = tune(network, DATA, min_sqnr=25.0, config=CONFIG)
    assert found.is_met
    assert found.chosen.kept == (CULPRIT,)
    assert found.config.nodes_to_exclude == (CULPRIT,)
    assert found.ranking[0].layer.name == CULPRIT
    assert found.ranking[0].alone_db < 10.0 < found.ranking[1].alone_db
    assert [layer.name for layer in found.layers] == list(LAYERS)
    assert found.chosen.sqnr_db == found.chosen.value >= 25.0
    assert found.float_latency_ms > 0.0 < found.chosen.latency_ms
    # What the recipe makes is what was measured.
    made = quantize_calibrated(network, found.table, found.config).model
    assert CULPRIT in made.plan.kept_float
    macs = {layer.name: layer.macs or 0 for layer in found.layers}
    share = 100.0 * (1 - macs[CULPRIT] / sum(macs.values()))
    assert found.chosen.int8_mac_percent == pytest.approx(share)


def test_the_frontier_goes_from_fast_to_good(network: Prepared) -> None:
    found = tune(network, DATA, min_sqnr=45.0, config=CONFIG)
    assert found.frontier[0].kept == ()
    assert found.frontier[0].int8_mac_percent == 100.0
    shares = [point.int8_mac_percent or 0.0 for point in found.frontier]
    assert shares == sorted(shares, reverse=True)
    values = [point.value for point in found.frontier]
    assert values == sorted(values)
    assert found.chosen in found.frontier


def test_a_limit_met_at_once(network: Prepared) -> None:
    per_channel = CONFIG.model_copy(update={"per_channel": True, "nodes_to_exclude": (CULPRIT,)})
    found = tune(network, DATA, min_sqnr=15.0, config=per_channel)
    assert (found.is_met, found.chosen.kept) == (True, ())
    assert found.config == per_channel
    assert found.chosen in found.frontier


def test_a_limit_that_cannot_be_met(network: Prepared) -> None:
    """Weights have 8 bits however wide the activations are."""
    found = tune(network, DATA, min_sqnr=90.0, keep="16bit", config=CONFIG)
    assert not found.is_met
    assert not found.only_float_meets
    assert (found.metric, found.limit) == ("sqnr", 90.0)
    assert found.chosen.value == max(point.value for point in found.frontier)


def test_resuming_gives_the_same_with_fewer_measurements(network: Prepared, tmp_path: Path) -> None:
    log = tmp_path / "o.tune.jsonl"

    def run(min_sqnr: float = 25.0, resume: bool = True) -> Tuning:
        return tune(network, DATA, min_sqnr=min_sqnr, config=CONFIG, state=log, resume=resume)

    whole = run(resume=False)
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + whole.measurements
    again = run()
    assert again.measurements == 0
    assert_same(whole, again)
    # Killed in the middle of the fifth measurement's line.
    log.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    rest = run()
    assert rest.measurements == whole.measurements - 4
    assert_same(whole, rest)
    # Another limit needs some more.
    assert 0 < run(min_sqnr=45.0).measurements < whole.measurements


def test_top1_of_another_run_keeps_its_interval(network: Prepared, tmp_path: Path) -> None:
    labels = np.arange(len(DATA)) % 4
    np.save(tmp_path / "labels.npy", labels)
    found = [
        tune(
            network,
            DATA,
            max_drop=2.0,
            labels=tmp_path / "labels.npy",
            config=CONFIG,
            state=tmp_path / "log",
            resume=resume,
        )
        for resume in (False, True)
    ]
    assert found[0].metric == "top1"
    drop = found[0].drop
    assert drop is not None
    assert drop.low <= drop.points <= drop.high
    assert drop.points == pytest.approx(found[0].float_value - found[0].chosen.value)
    assert found[1].measurements == 0
    assert_same(*found)


def edited(data: Array) -> Array:
    return data[::-1].copy()[: len(data) - 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda network, log: tune(
            network, DATA, max_drop=1.0, config=CONFIG, state=log, resume=True
        ),
        lambda network, log: tune(network, DATA, min_sqnr=25.0, state=log, resume=True),
        lambda network, log: tune(
            network, edited(DATA), min_sqnr=25.0, config=CONFIG, state=log, resume=True
        ),
        lambda network, log: tune(
            network, DATA, min_sqnr=25.0, config=CONFIG, keep="16bit", state=log, resume=True
        ),
    ],
    ids=["metric", "recipe", "data", "keep"],
)
def test_measurements_of_other_work_are_refused(
    network: Prepared, tmp_path: Path, change: Callable[[Prepared, Path], Tuning]
) -> None:
    log = tmp_path / "log"
    tune(network, DATA, min_sqnr=25.0, config=CONFIG, state=log)
    with pytest.raises(CalibrationError, match="are of another model, other data or other options"):
        change(network, log)


def test_a_calibration_table_is_used(network: Prepared) -> None:
    table = calibrate(network, DATA)
    found = tune(network, DATA, min_sqnr=25.0, config=CONFIG, table=table)
    assert found.table is table
    assert_same(found, tune(network, DATA, min_sqnr=25.0, config=CONFIG))


def test_other_samples_to_measure_on(network: Prepared) -> None:
    found = tune(network, DATA, min_sqnr=25.0, config=CONFIG, search_data=DATA[:7])
    assert (found.samples, found.ranking_samples) == (7, 7)
    assert found.table.sample_count == len(DATA)


def test_sixteen_bits(network: Prepared) -> None:
    """Its weights keep 8 bits, so 16-bit activations cannot save the culprit."""
    found = tune(network, DATA, min_sqnr=25.0, config=CONFIG, keep="16bit")
    assert not found.is_met
    assert found.config.nodes_to_exclude == ()
    fine = CONFIG.model_copy(update={"per_channel": True, "nodes_to_exclude": (CULPRIT,)})
    plain = tune(network, DATA, min_sqnr=0.0, config=fine).chosen.value
    keep: Keep = "16bit"
    found = tune(network, DATA, min_sqnr=plain + 3.0, config=fine, keep=keep)
    assert found.is_met
    assert found.chosen.kept
    assert found.config.tensors_in_16_bits
    assert (found.chosen.int8_mac_percent or 0.0) < (found.frontier[0].int8_mac_percent or 0.0)


def test_a_metric_of_the_users(network: Prepared, tmp_path: Path) -> None:
    (tmp_path / "metrics.py").write_text(
        "import numpy as np\n"
        "def spread(outputs, labels):\n"
        "    assert labels is None\n"
        "    print('not on stdout')\n"
        "    return outputs['y'].std()\n"
    )
    name = f"{tmp_path / 'metrics.py'}:spread"
    found = tune(network, DATA, max_drop=0.05, metric=name, config=CONFIG)
    assert (found.metric, found.unit, found.drop) == (name, "", None)
    assert found.limit == pytest.approx(found.float_value - 0.05)
    assert found.is_met
    assert found.chosen.value >= found.limit - 1e-9


def test_labels_in_the_data_choose_top1() -> None:
    with bundled.folder() as folder:
        found = tune(
            folder / "digits_mobilenet.onnx",
            folder / "digits_calibration.npz",
            search_data=folder / "digits_evaluation.npz",
            max_drop=5.0,
            num_samples=40,
        )
    assert (found.metric, found.samples, found.table.sample_count) == ("top1", 40, 40)
    assert (found.is_met, found.chosen.kept) == (True, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say how much may be lost: either --max-drop"),
        ({"max_drop": 1.0, "min_sqnr": 20.0}, "are two limits, and tune searches for one"),
        ({"max_drop": -1.0}, "--max-drop: 0 or more is expected, got -1"),
        ({"max_drop": 101.0}, "--max-drop: at most 100 percentage points are expected, got 101"),
        ({"max_drop": 1.0, "metric": "sqnr"}, "infinite, so none drops from it; give --min-sqnr"),
        ({"min_sqnr": 20.0, "metric": "top1"}, "--min-sqnr is no limit of the metric 'top1'"),
        ({"max_drop": float("nan")}, "--max-drop: a number is expected, got nan"),
    ],
)
def test_limits_without_meaning(
    network: Prepared, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(network, DATA, config=CONFIG, **options)  # type: ignore[arg-type]


def test_top1_without_labels(network: Prepared) -> None:
    with pytest.raises(CalibrationError, match=r"the data hold no labels .* give labels as a .csv"):
        tune(network, DATA, max_drop=1.0, metric="top1", config=CONFIG)


def test_unknown_metrics(network: Prepared) -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'top5'; known: top1, agreement, sq"):
        tune(network, DATA, max_drop=1.0, metric="top5")


def test_nothing_to_tune(network: Prepared) -> None:
    moves = CONFIG.model_copy(update={"op_types_to_quantize": ("Flatten",)})
    with pytest.raises(ConfigError, match="no layer is quantized, so there is nothing to tune"):
        tune(network, DATA, max_drop=1.0, config=moves)


def test_all_layers_kept_are_the_float_network(network: Prepared) -> None:
    found = tune(network, DATA, min_sqnr=1000.0, config=CONFIG)
    assert (found.is_met, found.only_float_meets) == (False, True)
    assert found.chosen.kept == LAYERS
    assert found.chosen.sqnr_db == float("inf")
    assert found.chosen.int8_mac_percent == 0.0
