"""The members of a calibration file, ``*.calib.npz``: JSON metadata and arrays.

The file is an uncompressed zip without pickles, readable with ``numpy.load``; T tensors are in
order of their names, and the same table always gives the same bytes:

- ``metadata.json``: schema version, tool version, model name and digest, data digest, sample count,
  whether all values were counted, preprocessing (or null), tensor names.
- ``minimum``, ``maximum``: float32, (T,). ``count``, ``sample_count``: int64, (T,).
- ``row_offset``: int64, (T + 1,): the histogram of tensor t is ``bucket[row_offset[t] :
  row_offset[t + 1]]``, uint16, with the counts ``bucket_count``, int64.
- ``channel_offset``: int64, (T + 1,), likewise into ``channel_minimum``, ``channel_maximum``
  (float32), ``channel_mean_whole`` (int64) and ``channel_mean_fraction`` (uint32); an empty range
  where a tensor has no channels.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import LogHistogram
from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.graph.partial_file import partial_file
from quantkit.graph.program import Array

_METADATA = "metadata.json"

Arrays = Mapping[str, npt.NDArray[Any]]


def write_file(path: Path, metadata: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file; a half-written one is never seen, and equal contents give equal bytes.

    Args:
        path: The file.
        metadata: JSON values.
        arrays: By name; see :func:`pack`.

    Raises:
        OSError: The place cannot be written to.
    """
    members = {_METADATA: json.dumps(metadata, sort_keys=True, indent=1).encode()}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(
            buffer, array.astype(array.dtype.newbyteorder("<"), copy=False), allow_pickle=False
        )
        members[f"{name}.npy"] = buffer.getvalue()
    with partial_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, data in sorted(members.items()):
            # ZipInfo's own date is 1980-01-01: no time of day gets into the bytes.
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The metadata and the arrays of a file that :func:`write_file` wrote.

    Raises:
        Exception: Of many types: whatever a damaged file leads to.
    """
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read(_METADATA))
        arrays = {
            name.removesuffix(".npy"): _read_array(archive.read(name))
            for name in archive.namelist()
            if name != _METADATA
        }
    return metadata, arrays


def pack(statistics: Mapping[str, TensorStatistics]) -> dict[str, Array]:
    """Statistics as arrays, tensors in the order of their names."""
    rows = [statistics[name] for name in sorted(statistics)]
    channels = [row.channels for row in rows]
    present = [item for item in channels if item is not None]
    return {
        "minimum": np.array([row.minimum for row in rows], np.float32),
        "maximum": np.array([row.maximum for row in rows], np.float32),
        "count": np.array([row.count for row in rows], np.int64),
        "sample_count": np.array([row.sample_count for row in rows], np.int64),
        "row_offset": _offsets([row.histogram.bucket.size for row in rows]),
        "bucket": _joined([row.histogram.bucket for row in rows], np.uint16),
        "bucket_count": _joined([row.histogram.count for row in rows], np.int64),
        "channel_offset": _offsets([0 if item is None else item.channels for item in channels]),
        "channel_minimum": _joined([item.minimum for item in present], np.float32),
        "channel_maximum": _joined([item.maximum for item in present], np.float32),
        "channel_mean_whole": _joined([item.mean_whole for item in present], np.int64),
        "channel_mean_fraction": _joined([item.mean_fraction for item in present], np.uint32),
    }


def unpack(names: Sequence[str], arrays: Arrays) -> dict[str, TensorStatistics]:
    """Inverse of :func:`pack`.

    Args:
        names: Of the tensors, sorted.
        arrays: What was packed.

    Raises:
        ValueError: The arrays do not fit each other or the names.
        LookupError, QuantkitError: Likewise.
    """
    rows, channels = arrays["row_offset"], arrays["channel_offset"]
    for name, offsets, values in (
        ("row_offset", rows, arrays["bucket"]),
        ("channel_offset", channels, arrays["channel_minimum"]),
    ):
        whole = (
            offsets.shape == (len(names) + 1,) and offsets[0] == 0 and offsets[-1] == values.size
        )
        if not whole:
            raise ValueError(f"{name} does not fit the {len(names)} tensors")
    return {
        name: TensorStatistics(
            float(arrays["minimum"][index]),
            float(arrays["maximum"][index]),
            int(arrays["sample_count"][index]),
            int(arrays["count"][index]),
            LogHistogram(
                arrays["bucket"][rows[index] : rows[index + 1]],
                arrays["bucket_count"][rows[index] : rows[index + 1]],
            ),
            _channels(arrays, slice(channels[index], channels[index + 1])),
        )
        for index, name in enumerate(names)
    }


def _channels(arrays: Mapping[str, npt.NDArray[Any]], part: slice) -> ChannelStatistics | None:
    if part.start == part.stop:
        return None
    return ChannelStatistics(
        arrays["channel_minimum"][part],
        arrays["channel_maximum"][part],
        arrays["channel_mean_whole"][part],
        arrays["channel_mean_fraction"][part],
    )


def _read_array(data: bytes) -> Array:
    array: Array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _offsets(lengths: Sequence[int]) -> Array:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _joined(parts: Sequence[Array], dtype: type[np.generic]) -> Array:
    return np.concatenate([np.empty(0, dtype), *parts])
