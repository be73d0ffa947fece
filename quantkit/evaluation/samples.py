"""Data opened for a model: with the preprocessing it was calibrated with, and only some of them."""

import json
import logging
from collections.abc import Sequence

from quantkit.calibration.dataset import Dataset, DataSource, open_dataset
from quantkit.calibration.preprocessing import PRESETS, Preprocessing, named
from quantkit.errors import ConfigError, ModelError
from quantkit.graph.program import TensorSpec
from quantkit.quantized_model.model import QuantizedModel

logger = logging.getLogger(__name__)


def open_samples(
    data: DataSource | Dataset,
    inputs: Sequence[TensorSpec],
    given: Preprocessing | str | None,
    stored: Preprocessing | None = None,
    *,
    num_samples: int | None = None,
    default_samples: int | None = None,
    strict: bool = False,
) -> Dataset:
    """Open data for a network; a dataset is passed on as it is.

    Args:
        data: As for ``calibration.dataset.open_dataset``, or its result.
        inputs: The network's inputs.
        given: The user's preprocessing, or a preset's name; it wins over ``stored``.
        stored: What the model was calibrated with.
        num_samples: How many samples, evenly spaced; None: all.
        default_samples: At most how many where ``num_samples`` is None; None: all.
        strict: Refuse unreadable pictures instead of skipping them.

    Raises:
        CalibrationError, ConfigError: See ``open_dataset``.
    """
    if isinstance(data, Dataset):
        return data
    given = named(given)
    dataset = open_dataset(
        data,
        inputs,
        preprocessing=given or stored,
        num_samples=num_samples,
        default_samples=default_samples,
        strict=strict,
    )
    if dataset.preprocessing is not None:
        logger.info("%d pictures, %s", len(dataset), dataset.preprocessing)
        if stored not in (None, dataset.preprocessing):
            logger.warning(
                "pictures are preprocessed otherwise than for calibration: %s now, %s then",
                dataset.preprocessing,
                stored,
            )
    elif given not in (None, PRESETS["raw"]):
        logger.warning("preprocessing is for pictures; these arrays are fed as they are")
    return dataset


def evenly_spaced(dataset: Dataset, count: int) -> Dataset:
    """``count`` samples through the dataset, without those known to be unreadable."""
    readable = [
        index for index, name in enumerate(dataset.sample_names) if name not in dataset.skipped
    ]
    if len(readable) <= count:
        return dataset.take(readable)
    return dataset.take([readable[index * len(readable) // count] for index in range(count)])


def stored_preprocessing(model: QuantizedModel) -> Preprocessing | None:
    """The preprocessing the model was calibrated with, as its metadata hold it.

    Raises:
        ModelError: The metadata are damaged.
    """
    try:
        fields = json.loads(model.metadata.get("preprocessing", "null"))
        return None if fields is None else Preprocessing.from_json(fields)
    except (ValueError, TypeError, ConfigError) as error:
        raise ModelError(
            f"the preprocessing stored in the model cannot be read ({error}); give --preset"
        ) from error
