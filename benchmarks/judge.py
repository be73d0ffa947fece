"""Quantized files of any tool, judged by one function in onnxruntime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import onnxruntime_engine
from quantkit.evaluation.integer_share import measured_mac_percent
from quantkit.graph.ort_session import median_latencies_ms
from quantkit.numerics.paired import PairedCounts, mcnemar_p_value, paired_difference_interval
from quantkit.passes.prepare import prepare

FLOAT = "float"
ROUNDS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What a file is worth.

    Attributes:
        right: Whether each sample's answer is its label.
        sqnr_db: Of the first output over all samples, against float.
        agreement_percent: Samples with the float network's answer.
        tied: Samples with several best classes, of which the first is the answer.
        drop: Float's top-1 less this one's, in percentage points, and the ends of its paired 95 %
            interval.
        integer_mac_percent: Share of the Conv, Gemm and MatMul MACs that integer kernels compute in
            the graph that onnxruntime really runs.
        latency_ms: Median of one sample.
    """

    right: npt.NDArray[np.bool_]
    sqnr_db: float
    agreement_percent: float
    tied: int
    drop: tuple[float, float, float]
    integer_mac_percent: float | None
    latency_ms: float

    @property
    def top1_percent(self) -> float:
        """Samples with the right answer."""
        return 100 * float(self.right.mean())


def judge(
    float_model: Path,
    files: Mapping[str, Path],
    dataset: Dataset,
    labels: npt.NDArray[np.int64],
    *,
    rounds: int = ROUNDS,
) -> dict[str, Judgement]:
    """Run all files on the same samples, one at a time, and time them in the same rounds.

    Args:
        float_model: The reference; judged as "float" itself.
        files: Quantized files by label.
        dataset: The samples.
        labels: A class per sample.
        rounds: How often each file has its turn when latencies are measured.
    """
    everything = {FLOAT: float_model, **files}
    # One thread each: those of idle sessions keep spinning and slow the others down.
    engines = [onnxruntime_engine(label, path, threads=1) for label, path in everything.items()]
    scores = evaluate(engines, dataset, labels, batch_size=1).engines
    del engines
    feeds = next(iter(batches(dataset, 1))).arrays
    latencies = median_latencies_ms(everything, dict.fromkeys(everything, feeds), rounds=rounds)
    program = prepare(float_model).program
    found = {}
    for score, (label, path) in zip(scores, everything.items(), strict=True):
        assert score.agrees is not None
        assert score.tied is not None
        assert score.top1 is not None
        assert scores[0].top1 is not None
        counts = PairedCounts.of(scores[0].top1, score.top1)
        low, high = paired_difference_interval(counts)
        found[label] = Judgement(
            right=score.top1,
            sqnr_db=next(iter(score.sqnr_db.values())),
            agreement_percent=100 * float(score.agrees.mean()),
            tied=int(score.tied.sum()),
            drop=(100 * counts.difference, 100 * low, 100 * high),
            integer_mac_percent=measured_mac_percent(path, program),
            latency_ms=latencies[label],
        )
    return found


def p_of_better(first: Judgement, second: Judgement) -> float | None:
    """McNemar's p of both being right equally often; None: the first is no better."""
    counts = PairedCounts.of(first.right, second.right)
    return mcnemar_p_value(counts) if counts.difference > 0 else None
