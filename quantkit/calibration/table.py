"""The calibration table and its file, ``*.calib.npz``.

The file is an uncompressed zip without pickles, readable with ``numpy.load``; T tensors are in
order of their names, and the same table always gives the same bytes:

- ``metadata.json``: schema version, tool version, model name and digest, data digest, sample count,
  preprocessing (or null), tensor names.
- ``minimum``, ``maximum``: float32, (T,). ``count``, ``sample_count``: int64, (T,).
- ``row_offset``: int64, (T + 1,): the histogram of tensor t is ``bucket[row_offset[t] :
  row_offset[t + 1]]``, uint16, with the counts ``bucket_count``, int64.
- ``channel_offset``: int64, (T + 1,), likewise into ``channel_minimum``, ``channel_maximum``
  (float32), ``channel_mean_whole`` (int64) and ``channel_mean_fraction`` (uint32); an empty range
  where a tensor has no channels.
"""

import importlib.metadata
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import LogHistogram
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.errors import CalibrationError, QuantkitError, TableMismatchError
from quantkit.graph.model_io import partial_file
from quantkit.graph.program import Array

SCHEMA_VERSION = 1
DIGEST_MODULUS = 1 << 256
_METADATA = "metadata.json"
_DAMAGE = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    QuantkitError,
)


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationTable:
    """Statistics of a network's tensors over some data.

    Attributes:
        statistics: By tensor name.
        model_digest: Of the source model (hexadecimal).
        model_name: Its name for people; not compared.
        data_digest: Sum modulo 2^256 of the SHA-256 of every preprocessed sample (hexadecimal).
        sample_count: Samples read.
        preprocessing: What made arrays of pictures; None where the data were arrays.
        tool_version: The quantkit that collected them.
    """

    statistics: Mapping[str, TensorStatistics] = field(repr=False)
    model_digest: str
    model_name: str
    data_digest: str
    sample_count: int
    preprocessing: Preprocessing | None
    tool_version: str

    def require_model(self, model_digest: str) -> None:
        """Refuse to be used for another model.

        Raises:
            TableMismatchError: The digests differ.
        """
        if self.model_digest != model_digest:
            raise TableMismatchError(
                f"the calibration table was made for another model ({self._model()}), not for this "
                f"one (digest {model_digest[:12]}); calibrate this model"
            )

    def save(self, path: str | Path) -> None:
        """Write the file; a half-written one is never seen.

        Raises:
            CalibrationError: The place cannot be written to.
        """
        path = Path(path)
        try:
            with partial_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
                for name, data in sorted(_members(self).items()):
                    # ZipInfo's own date is 1980-01-01: no time of day gets into the bytes.
                    info = zipfile.ZipInfo(name)
                    info.create_system = 3
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, data)
        except OSError as error:
            raise CalibrationError(f"cannot write {str(path)!r}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "CalibrationTable":
        """Read a file and check that it is whole.

        Raises:
            CalibrationError: No such file, no calibration file, or damaged.
            TableMismatchError: Written by a newer quantkit.
        """
        path = Path(path)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise CalibrationError(
                f"calibration file {str(path)!r} {what}; `quantkit calibrate` writes one"
            )
        try:
            return _read(path)
        except TableMismatchError:
            raise
        except _DAMAGE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CalibrationError(
                f"{str(path)!r} is not a calibration file, or is damaged ({reason}); "
                "calibrate again"
            ) from error

    def _model(self) -> str:
        digest = f"digest {self.model_digest[:12]}"
        return f"{self.model_name!r}, {digest}" if self.model_name else digest


def merge(a: CalibrationTable, b: CalibrationTable) -> CalibrationTable:
    """The table of both tables' samples; associative and commutative, bit for bit.

    Raises:
        TableMismatchError: Other models, or other preprocessing.
    """
    if a.model_digest != b.model_digest:
        raise TableMismatchError(
            "calibration tables of different models cannot be merged: "
            f"{a._model()} and {b._model()}"
        )
    if a.preprocessing != b.preprocessing:
        raise TableMismatchError(
            "calibration tables with different preprocessing cannot be merged: "
            f"{a.preprocessing} and {b.preprocessing}"
        )
    statistics = {**a.statistics, **b.statistics}
    for name in a.statistics.keys() & b.statistics.keys():
        statistics[name] = a.statistics[name].merge(b.statistics[name])
    return CalibrationTable(
        statistics=statistics,
        model_digest=a.model_digest,
        model_name=max(a.model_name, b.model_name),
        data_digest=format_digest(int(a.data_digest, 16) + int(b.data_digest, 16)),
        sample_count=a.sample_count + b.sample_count,
        preprocessing=a.preprocessing,
        tool_version=max(a.tool_version, b.tool_version),
    )


def format_digest(value: int) -> str:
    """A sum of digests modulo 2^256 in 64 hexadecimal digits."""
    return f"{value % DIGEST_MODULUS:064x}"


def tool_version() -> str:
    """The version of the installed quantkit."""
    try:
        return importlib.metadata.version("quantkit")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _members(table: CalibrationTable) -> dict[str, bytes]:
    names = sorted(table.statistics)
    rows = [table.statistics[name] for name in names]
    channels = [row.channels for row in rows]
    present = [item for item in channels if item is not None]
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "tool_version": table.tool_version,
        "model_name": table.model_name,
        "model_digest": table.model_digest,
        "data_digest": table.data_digest,
        "sample_count": table.sample_count,
        "preprocessing": table.preprocessing.to_json() if table.preprocessing else None,
        "tensors": names,
    }
    arrays: dict[str, Array] = {
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
    members = {_METADATA: json.dumps(metadata, sort_keys=True, indent=1).encode()}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(
            buffer, array.astype(array.dtype.newbyteorder("<")), allow_pickle=False
        )
        members[f"{name}.npy"] = buffer.getvalue()
    return members


def _read(path: Path) -> CalibrationTable:
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read(_METADATA))
        version = metadata["schema_version"]
        if version > SCHEMA_VERSION:
            raise TableMismatchError(
                f"calibration file {str(path)!r} has schema version {version} (quantkit "
                f"{metadata.get('tool_version')}), this quantkit reads up to {SCHEMA_VERSION}; "
                "update quantkit, or calibrate again"
            )
        arrays = {
            name.removesuffix(".npy"): _read_array(archive.read(name))
            for name in archive.namelist()
            if name != _METADATA
        }
    return _table(metadata, arrays)


def _table(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> CalibrationTable:
    names = metadata["tensors"]
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
    statistics = {
        name: TensorStatistics(
            float(arrays["minimum"][index]),
            float(arrays["maximum"][index]),
            int(arrays["sample_count"][index]),
            LogHistogram(
                arrays["bucket"][rows[index] : rows[index + 1]],
                arrays["bucket_count"][rows[index] : rows[index + 1]],
            ),
            _channels(arrays, slice(channels[index], channels[index + 1])),
        )
        for index, name in enumerate(names)
    }
    for index, name in enumerate(names):
        if statistics[name].count != arrays["count"][index]:
            raise ValueError(f"the histogram of tensor {name!r} does not add up")
    how = metadata["preprocessing"]
    return CalibrationTable(
        statistics=statistics,
        model_digest=metadata["model_digest"],
        model_name=metadata["model_name"],
        data_digest=format_digest(int(metadata["data_digest"], 16)),
        sample_count=int(metadata["sample_count"]),
        preprocessing=None if how is None else Preprocessing.from_json(how),
        tool_version=metadata["tool_version"],
    )


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
