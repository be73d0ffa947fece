"""Choose every activation's range by the error of the network's outputs that it causes alone.

The errors of single tensors add up almost exactly, so each tensor can be improved on its own. How
much clipping hurts depends on what the rest of the network makes of it: an outlier may be all that
matters or may not matter at all, which no histogram tells.

From the plan's range the search walks a geometric grid, both ends together, until the error grows.
Two neighbours on the grid differ by far more than floats do in their last bits, so the choice is
the same on other machines; it does not depend on the number of threads at all.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.statistics import TensorStatistics
from quantkit.calibration.table import CalibrationTable
from quantkit.errors import ModelError, UnreadableSampleError
from quantkit.evaluation.samples import evenly_spaced
from quantkit.graph.cost import model_cost
from quantkit.ops.parallel import available_threads
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, params_of_range
from quantkit.plan.ranges import full_range_reasons, known_range, range_groups
from quantkit.range_estimators.contract import Range
from quantkit.recovery.output_error import (
    Cut,
    Sample,
    cut_behind,
    energies,
    measured_values,
    open_rest,
    output_error,
    run_samples,
    with_values,
)

# Factors of the lower and the upper end: coarse steps first, then half ones.
_STEPS = ((0.85, 0.85), (0.925, 0.925))
# What the float network's values may take at a time.
_CACHE_BYTES = 150 * 1024 * 1024
_FEWEST_SAMPLES, _MOST_SAMPLES = 16, 64
_MACS_PER_RANGE = 5_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    """Values that share their parameters.

    Attributes:
        members: The values.
        cut: Behind those that anything else reads.
        statistics: What was seen of it.
    """

    members: tuple[str, ...]
    cut: Cut
    statistics: TensorStatistics


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What was found for one tensor.

    Attributes:
        tensor: The tensor.
        found: Its best range.
        tried: How many ranges were tried; 0: what follows the tensor cannot be run alone.
        before: Error of the outputs with the plan's range, relative to their energy.
        after: The same with the best one.
    """

    tensor: _Tensor
    found: Range
    tried: int = 0
    before: float = 0.0
    after: float = 0.0


def search_activation_ranges(
    prepared: Prepared,
    plan: QuantPlan,
    table: CalibrationTable,
    dataset: Dataset,
    *,
    num_samples: int | None = None,
    progress: Progress | None = None,
) -> tuple[QuantPlan, PassNote]:
    """Change the ranges whose tensor then causes less error of the network's outputs.

    Ranges that are never clipped stay: inputs and outputs of the graph, inputs of Softmax, fixed
    ranges and constants; so do those of codes of 16 bits. Values that share parameters are one
    tensor.

    Args:
        prepared: The prepared float graph.
        plan: Its plan.
        table: The table the plan was made with.
        dataset: Calibration samples.
        num_samples: How many of them, evenly spaced; None: 16, or up to 64 where runs are short.
        progress: Told after every tensor: tensors done, tensors in all.

    Returns:
        The plan with new ranges, and what was changed.

    Raises:
        UnreadableSampleError: Not one sample can be read and run.
    """
    if any(node.has_subgraph for node in prepared.program.nodes):
        message = "every range stays: a node holds a graph of its own"
        return plan, PassNote("activation_range_search", "", "", False, message)
    searches: list[_Search] = []
    with ThreadPoolExecutor(available_threads(), thread_name_prefix="quantkit-search") as pool:
        try:
            chosen = evenly_spaced(dataset, num_samples or _sample_count(prepared))
            outputs = measured_values(prepared.program)
            samples = run_samples(prepared.model, chosen, outputs, pool)
            tensors = _tensors(prepared, plan, table, tuple(samples[0].outputs))
            for together in _packed(tensors, table, len(samples)):
                names = dict.fromkeys(name for tensor in together for name in tensor.cut.inputs)
                fitting = samples[:: _every(together, table, len(samples))]
                at_cuts = with_values(prepared.model, fitting, list(names), pool)
                searching = [
                    pool.submit(_search, prepared, plan, table, tensor, at_cuts)
                    for tensor in together
                ]
                for search in searching:
                    searches.append(search.result())
                    if progress is not None:
                        progress(len(searches), len(tensors))
        finally:
            pool.shutdown(cancel_futures=True)
    return _with_ranges(plan, searches), _note(plan, searches)


def _sample_count(prepared: Prepared) -> int:
    """More where the network is small: they cost little there, and leave less to chance."""
    cost = model_cost(prepared.program)
    if cost.unknown or not cost.macs:
        return _FEWEST_SAMPLES
    return min(max(_MACS_PER_RANGE // cost.macs, _FEWEST_SAMPLES), _MOST_SAMPLES)


def _tensors(
    prepared: Prepared, plan: QuantPlan, table: CalibrationTable, outputs: Sequence[str]
) -> list[_Tensor]:
    """The tensors whose ranges may change and that have a say in the outputs, in graph order."""
    program = prepared.program
    groups = range_groups(prepared, plan.kept_float)
    unclipped = full_range_reasons(prepared, groups)
    producers, readers = program.producers(), program.consumers()
    members_of: dict[str, list[str]] = {}
    for name in (name for node in program.nodes for name in node.outputs if name in plan.params):
        members_of.setdefault(groups.get(name, name), []).append(name)
    tensors: list[_Tensor] = []
    for root, members in members_of.items():
        if (
            root not in table.statistics
            or known_range(root, program, producers.get(root)) is not None
            or any(name in unclipped or name not in plan.ranges for name in members)
            or plan.params[root].dtype.itemsize != 1
        ):
            continue
        # Quantizing what is clamped or moved last is the same as quantizing it first.
        read = [
            name
            for name in members
            if any(set(members).isdisjoint(reader.outputs) for reader in readers.get(name, ()))
        ]
        cut = cut_behind(program, read, outputs)
        if cut.outputs:
            tensors.append(_Tensor(tuple(members), cut, table.statistics[root]))
    return tensors


def _packed(
    tensors: Sequence[_Tensor], table: CalibrationTable, count: int
) -> Iterator[list[_Tensor]]:
    """Neighbouring tensors whose cuts' values fit in memory for all samples; at least one."""
    pack: list[_Tensor] = []
    for tensor in tensors:
        if pack and count * _sample_bytes((*pack, tensor), table) > _CACHE_BYTES:
            yield pack
            pack = []
        pack.append(tensor)
    if pack:
        yield pack


def _every(tensors: Sequence[_Tensor], table: CalibrationTable, count: int) -> int:
    """One sample in so many fits in memory."""
    return math.ceil(count / max(1, _CACHE_BYTES // max(1, _sample_bytes(tensors, table))))


def _sample_bytes(tensors: Sequence[_Tensor], table: CalibrationTable) -> int:
    """What the cuts take per sample, but for values that the table does not know."""
    names = {name for tensor in tensors for name in tensor.cut.inputs}
    known = (table.statistics[name] for name in names if name in table.statistics)
    return sum(4 * found.count // found.sample_count for found in known)


def _search(
    prepared: Prepared,
    plan: QuantPlan,
    table: CalibrationTable,
    tensor: _Tensor,
    samples: Sequence[Sample],
) -> _Search:
    first = tensor.members[0]
    start = best = plan.ranges[first]
    energy = energies([sample.outputs for sample in samples])
    try:
        rest = open_rest(prepared.model, tensor.cut, samples[0].values)
        before = output_error(rest, tensor.cut, samples, plan.params[first], energy)
        tried, least = 1, before
        for step in _STEPS:
            for factors in (step, (1 / step[0], 1 / step[1])):
                here = best
                while True:
                    found = _scaled(best, factors, tensor.statistics)
                    params = params_of_range(found, plan.params[first].dtype)
                    if not _is_allowed(prepared, plan, table, tensor, found):
                        break
                    if params.equals(params_of_range(best, params.dtype)):
                        break
                    tried += 1
                    error = output_error(rest, tensor.cut, samples, params, energy, least)
                    if not error < least:
                        break
                    best, least = found, error
                if best is not here:
                    break
    except (ModelError, UnreadableSampleError):
        return _Search(tensor, start)
    return _Search(tensor, best, tried, before, least)


def _scaled(found: Range, factors: tuple[float, float], statistics: TensorStatistics) -> Range:
    """Both ends scaled, as far as values were seen or the range went before."""
    return Range(
        max(found.low * factors[0], min(statistics.minimum, found.low)),
        min(found.high * factors[1], max(statistics.maximum, found.high)),
    )


def _is_allowed(
    prepared: Prepared, plan: QuantPlan, table: CalibrationTable, tensor: _Tensor, found: Range
) -> bool:
    """Whether averages stay at least a step of what is averaged wide, as ``make_plan`` leaves them.

    onnxruntime's kernel of GlobalAveragePool refuses multipliers of 256 and more.
    """
    for node in prepared.program.nodes:
        if node.op_type != "GlobalAveragePool" or node.name in plan.kept_float:
            continue
        source, averages = node.inputs[0], node.outputs[0]
        if source in tensor.members:
            step = float(params_of_range(found, plan.params[source].dtype).scale)
            if plan.ranges[averages].high - plan.ranges[averages].low < step:
                return False
        if averages in tensor.members:
            step = float(plan.params[source].scale)
            if source in table.statistics:
                seen = Range(table.statistics[source].minimum, table.statistics[source].maximum)
                # Meanwhile the range of what is averaged may grow so far.
                step = max(step, float(params_of_range(seen, plan.params[source].dtype).scale))
            if found.high - found.low < step:
                return False
    return True


def _with_ranges(plan: QuantPlan, searches: Sequence[_Search]) -> QuantPlan:
    params, ranges = dict(plan.params), dict(plan.ranges)
    for search in searches:
        members, found = search.tensor.members, search.found
        if found is plan.ranges[members[0]]:
            continue
        seen = search.tensor.statistics.maximum - search.tensor.statistics.minimum
        share = (found.high - found.low) / seen
        reason = f"output error: {share:.2g} of the values seen (least of {search.tried} tried)"
        new = params_of_range(found, plan.params[members[0]].dtype)
        params |= dict.fromkeys(members, new)
        ranges |= dict.fromkeys(members, replace(found, reason=reason))
    return replace(plan, params=params, ranges=ranges)


def _note(plan: QuantPlan, searches: Sequence[_Search]) -> PassNote:
    done = [search for search in searches if search.tried]
    changed = sum(search.found is not plan.ranges[search.tensor.members[0]] for search in done)
    before, after = sum(search.before for search in done), sum(search.after for search in done)
    message = f"{changed} of {len(done)} ranges chosen by the error of the outputs they cause"
    if changed and after > 0:
        message += f"; the sum of these errors fell by {10 * math.log10(before / after):.1f} dB"
    if len(done) < len(searches):
        message += f"; {len(searches) - len(done)} stay: what follows them cannot be run alone"
    return PassNote("activation_range_search", "", "", changed > 0, message)
