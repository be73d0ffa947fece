"""Ranges from calibration histograms against ranges from all values, tensor by tensor.

Run with ``python -m benchmarks.calibrated_ranges``. The ranges are those of 16 calibration pictures
on the MobileNets; what they do to the output is measured on other calibration pictures. Where the
squared error is flat, its least value hangs on chance: two scales some per cent apart may be
equally good, so the error itself is judged too, by the same limits.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.limits import within
from benchmarks.raw_ranges import (
    RawValues,
    divergences,
    least_squares_range,
    percentile_range,
    raw_tensors,
    squared_error,
)
from benchmarks.zoo import NETWORKS, Network, has_zoo, pictures
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.statistics import TensorStatistics
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import onnxruntime_engine
from quantkit.numerics.affine import QuantParams, params_from_range
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import calibrate, export
from quantkit.plan import QuantPlan, make_plan
from quantkit.plan.ranges import full_range_reasons, known_range, range_groups
from quantkit.quantized_model.model import quantize_model
from quantkit.range_estimators import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit.range_estimators.entropy import bins_of
from quantkit.recovery.bias_correction import correct_biases

SAMPLES, OTHERS = 16, 64
PERCENTILES = (99.9, 99.99, 99.999)
LIMITS_PERCENT = {"exact": 1.0, "default": 2.0}
_OPTIONS = RangeOptions()

Found = dict[str, float]
"""A figure by tensor."""


def main() -> int:
    """Print the figures; 1 if one misses its limit."""
    if not has_zoo():
        return 0
    kept = [verdict for network in NETWORKS for verdict in _judge(network)]
    return 0 if all(kept) else 1


def _judge(network: Network) -> list[bool]:
    prepared = prepare(network.path)
    everything = pictures(network, "calibration")
    chosen = [index * len(everything) // SAMPLES for index in range(SAMPLES)]
    rest = sorted(set(range(len(everything))) - set(chosen))
    dataset = everything.take(chosen)
    others = everything.take([rest[index * len(rest) // OTHERS] for index in range(OTHERS)])
    tables = {kind: calibrate(prepared, dataset, exact=kind == "exact") for kind in LIMITS_PERCENT}
    names = sorted(set(_sources(prepared, make_plan(prepared, tables["exact"])).values()))
    print(f"\n{network.title}: ranges of {len(names)} tensors over {SAMPLES} pictures")
    figures: dict[tuple[str, str], Found] = defaultdict(dict)
    ranges: dict[str, dict[str, Range]] = {"percentile": {}, "mse": {}}
    for name, raw in raw_tensors(prepared, names, dataset):
        least = least_squares_range(raw)
        ranges["percentile"][name] = percentile_range(raw, _OPTIONS.percentile)
        ranges["mse"][name] = least
        for kind, table in tables.items():
            _compare(figures, name, raw, least, table.statistics[name], kind)
    kept = [
        _worst(
            f"{what}, {kind}", found, 2.0 if what.startswith("entropy") else LIMITS_PERCENT[kind]
        )
        for (what, kind), found in figures.items()
    ]
    return [*kept, *_judge_outputs(network, prepared, tables, ranges, others)]


def _compare(
    figures: dict[tuple[str, str], Found],
    name: str,
    raw: RawValues,
    least: Range,
    statistics: TensorStatistics,
    kind: str,
) -> None:
    """Per cent that a tensor's scales, squared error and divergence are off."""
    for percentile in PERCENTILES:
        options = RangeOptions(percentile=percentile)
        ours = _params(RANGE_ESTIMATORS["percentile"](statistics, options))
        figures[f"percentile {percentile}: scale", kind][name] = _off(
            ours, _params(percentile_range(raw, percentile))
        )
    ours, theirs = _params(RANGE_ESTIMATORS["mse"](statistics, _OPTIONS)), _params(least)
    figures["mse: scale", kind][name] = _off(ours, theirs)
    figures["mse: squared error", kind][name] = _excess(
        squared_error(raw, ours), squared_error(raw, theirs)
    )
    low, high = float(raw.values[0]), float(raw.values[-1])
    if low == high == 0.0:
        return
    bins = bins_of(low, high, _OPTIONS.levels)
    threshold = RANGE_ESTIMATORS["entropy"](statistics, _OPTIONS)
    reach = round(max(-threshold.low, threshold.high) / bins.width)
    losses = divergences(raw, bins, _OPTIONS.levels)
    chosen = losses[int(np.argmin(np.abs(bins.thresholds - reach)))]
    figures["entropy: divergence", kind][name] = _excess(float(chosen), float(losses.min()))


def _params(found: Range) -> QuantParams:
    return params_from_range(found.low, found.high)


def _off(ours: QuantParams, theirs: QuantParams) -> float:
    """Per cent that a scale is off."""
    return 100 * abs(float(ours.scale) / float(theirs.scale) - 1)


def _excess(ours: float, best: float) -> float:
    """Per cent above the best."""
    return 0.0 if ours <= best else 100 * (ours / best - 1)


def _worst(what: str, found: Found, limit: float) -> bool:
    tensor = max(found, key=lambda name: found[name])
    missed = sum(value > limit for value in found.values())
    note = f" (median {np.median(list(found.values())):.3f}, {missed} miss; worst {tensor})"
    return within(f"{what}: worst tensor, % off", found[tensor], limit, note=note)


def _judge_outputs(
    network: Network,
    prepared: Prepared,
    tables: Mapping[str, CalibrationTable],
    ranges: Mapping[str, Mapping[str, Range]],
    others: Dataset,
) -> list[bool]:
    """Output SQNR of the quantized models; their ranges differ in nothing but their source."""
    kept = []
    for method, raw in ranges.items():
        config = QuantConfig(range_estimator=method)
        plans = {kind: make_plan(prepared, table, config) for kind, table in tables.items()}
        plans["raw"] = _with_ranges(prepared, plans["exact"], raw)
        found = _sqnr_db(network, prepared, plans, tables["exact"], config, others)
        for kind in tables:
            note = f" ({found[kind]:.2f} and {found['raw']:.2f} dB, {len(others)} other pictures)"
            off = abs(found[kind] - found["raw"])
            kept.append(within(f"{method}, {kind}: output SQNR, dB off", off, 0.2, note=note))
    return kept


def _with_ranges(prepared: Prepared, plan: QuantPlan, ranges: Mapping[str, Range]) -> QuantPlan:
    """The plan with other ranges wherever an estimator had a say."""
    chosen = {name: ranges[source] for name, source in _sources(prepared, plan).items()}
    params = {name: _params(found) for name, found in chosen.items()}
    return replace(plan, params={**plan.params, **params}, ranges={**plan.ranges, **chosen})


def _sources(prepared: Prepared, plan: QuantPlan) -> dict[str, str]:
    """Values whose range is estimated, not full or known, and the tensor that it is taken from."""
    groups, program = range_groups(prepared, plan.kept_float), prepared.program
    full, producers = full_range_reasons(prepared, groups), program.producers()
    sources = {name: groups.get(name, name) for name in plan.params}
    return {
        name: source
        for name, source in sources.items()
        if source not in full and known_range(source, program, producers.get(source)) is None
    }


def _sqnr_db(
    network: Network,
    prepared: Prepared,
    plans: Mapping[str, QuantPlan],
    table: CalibrationTable,
    config: QuantConfig,
    dataset: Dataset,
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        engines = [onnxruntime_engine("float", network.path)]
        for kind, plan in plans.items():
            path = Path(folder) / f"{kind}.onnx"
            export(correct_biases(quantize_model(prepared, plan, config), table), path)
            engines.append(onnxruntime_engine(kind, path))
        scores = evaluate(engines, dataset).engines[1:]
    return {score.label: min(score.sqnr_db.values()) for score in scores}


if __name__ == "__main__":
    sys.exit(main())
