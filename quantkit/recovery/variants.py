"""Variants of a network, each made by a configuration: measured in onnxruntime, once."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantkit.calibration.batches import fixed_batch
from quantkit.config import QuantConfig
from quantkit.evaluation.measurement import Bench, Measurement, measure
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.model_io import save_model
from quantkit.graph.ort_session import Model, median_latencies_ms
from quantkit.passes.prepare import Prepared
from quantkit.plan import candidate_refusals
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.measurement_log import add_to_log, digest_of

_ROUNDS, _RUNS_PER_ROUND = 5, 8


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """How variants are made, and what is known of them.

    Attributes:
        prepared: The prepared float graph.
        quantize: Makes the quantized model of a configuration.
        known: Measurements by key; filled as variants are measured.
        log: The file that new measurements are added to; None: nowhere.
    """

    prepared: Prepared
    quantize: Callable[[QuantConfig], QuantizedModel]
    known: dict[str, Measurement]
    log: Path | None = None

    def model(self, config: QuantConfig) -> QuantizedModel | None:
        """The quantized model, or None where all stays float."""
        if len(candidate_refusals(self.prepared, config)) == len(self.prepared.program.nodes):
            return None
        return self.quantize(config)

    def measurement(self, config: QuantConfig, bench: Bench) -> Measurement:
        """What a configuration is worth; measured if it is not known."""
        key = digest_of(json.loads(config.model_dump_json()), bench.metric.name, bench.count)
        if key not in self.known:
            made = self.model(config)
            if made is None:
                return bench.float_measurement
            found = measure(bench, qdq_graph(made))
            if self.log is not None:
                add_to_log(self.log, key, found)
            self.known[key] = found
        return self.known[key]

    def latencies_ms(self, models: Sequence[QuantizedModel | None], bench: Bench) -> list[float]:
        """Median latencies of one sample (a batch where the network has a fixed one), in turn.

        Args:
            models: The models; None stands for the float network.
            bench: Holds the samples.
        """
        batch = next(iter(bench.read())).arrays
        rows = None if fixed_batch(self.prepared.program.inputs) else 1
        feeds = {name: array[:rows] for name, array in batch.items()}
        graphs: list[Model] = [
            self.prepared.model if each is None else qdq_graph(each) for each in models
        ]
        with tempfile.TemporaryDirectory(prefix="quantkit-") as folder:
            files = {str(index): Path(folder) / f"{index}.onnx" for index in range(len(graphs))}
            for graph, path in zip(graphs, files.values(), strict=True):
                save_model(graph, path)
            found = median_latencies_ms(
                files,
                dict.fromkeys(files, feeds),
                rounds=_ROUNDS,
                runs_per_round=_RUNS_PER_ROUND,
            )
        return list(found.values())
