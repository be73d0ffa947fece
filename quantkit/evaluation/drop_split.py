"""How much of a drop the weights make, and how much the activations."""

import logging
import math
from collections.abc import Mapping

from quantkit.calibration.dataset import Dataset
from quantkit.errors import ModelError
from quantkit.evaluation.accuracy import EngineScores, IntArray, Progress, evaluate
from quantkit.evaluation.engines import Engine
from quantkit.graph.ort_session import Model, open_session

logger = logging.getLogger(__name__)

# Errors of weights and activations hardly cancel: a part that is this much worse than both together
# compares values that are not the same ones, such as rescaled channels that the file tells not of.
_NOT_THE_SAME_DB = 6.0


def drop_split(
    reference: Engine,
    parts: Mapping[str, Model],
    both: EngineScores,
    dataset: Dataset,
    labels: IntArray | None = None,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> tuple[EngineScores, ...]:
    """Run partly quantized networks in onnxruntime over every sample.

    Args:
        reference: The float network.
        parts: Graphs in which only some tensors are quantized, by label.
        both: What the quantized network scored on these samples.
        dataset: The samples.
        labels: A class per sample of the dataset, or None.
        batch_size: Samples per run.
        progress: Told after every batch.

    Returns:
        Scores of the parts, without those that onnxruntime refuses and those that are far worse
        than the whole: their values do not match the float network's.

    Raises:
        QuantkitError: As :func:`quantkit.evaluation.accuracy.evaluate`.
    """
    engines: list[Engine] = []
    for label, graph in parts.items():
        try:
            engines.append(Engine(label, open_session(graph).run))
        except ModelError as error:
            logger.warning("%s cannot be measured: %s", label, error)
    if not engines:
        return ()
    scores = evaluate(
        [reference, *engines], dataset, labels, batch_size=batch_size, progress=progress
    ).engines[1:]
    for score in scores:
        if not _is_plausible(score, both):
            logger.warning(
                "%s: its SQNR is far below that of the whole network, so the values of the two "
                "models are not the same ones; left out",
                score.label,
            )
    return tuple(score for score in scores if _is_plausible(score, both))


def _is_plausible(part: EngineScores, both: EngineScores) -> bool:
    return all(
        math.isinf(both.sqnr_db[name]) or db > both.sqnr_db[name] - _NOT_THE_SAME_DB
        for name, db in part.sqnr_db.items()
    )
