"""The calibration table: the statistics of all tensors, and where they come from."""

import importlib.metadata
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantkit.calibration.array_files import HEADER_DAMAGE
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.statistics import TensorStatistics
from quantkit.calibration.table_file import pack, read_file, unpack, write_file
from quantkit.errors import CalibrationError, QuantkitError, TableMismatchError

SCHEMA_VERSION = 1
DIGEST_MODULUS = 1 << 256
DAMAGE = (
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
    *HEADER_DAMAGE,
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
        exact: Whether every value was counted; otherwise a sample and the far tails, see
            :mod:`quantkit.calibration.counting`.
        preprocessing: What made arrays of pictures; None where the data were arrays.
        tool_version: The quantkit that collected them.
    """

    statistics: Mapping[str, TensorStatistics] = field(repr=False)
    model_digest: str
    model_name: str
    data_digest: str
    sample_count: int
    exact: bool
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
        try:
            write_file(Path(path), self.metadata(), pack(self.statistics))
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
        except DAMAGE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CalibrationError(
                f"{str(path)!r} is not a calibration file, or is damaged ({reason}); "
                "calibrate again"
            ) from error

    def metadata(self) -> dict[str, Any]:
        """All but the statistics, as JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool_version": self.tool_version,
            "model_name": self.model_name,
            "model_digest": self.model_digest,
            "data_digest": self.data_digest,
            "sample_count": self.sample_count,
            "exact": self.exact,
            "preprocessing": self.preprocessing.to_json() if self.preprocessing else None,
            "tensors": sorted(self.statistics),
        }

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
        exact=a.exact and b.exact,
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


def _read(path: Path) -> CalibrationTable:
    metadata, arrays = read_file(path)
    version = metadata["schema_version"]
    if version > SCHEMA_VERSION:
        raise TableMismatchError(
            f"calibration file {str(path)!r} has schema version {version} (quantkit "
            f"{metadata.get('tool_version')}), this quantkit reads up to {SCHEMA_VERSION}; "
            "update quantkit, or calibrate again"
        )
    statistics = unpack(metadata["tensors"], arrays)
    exact = bool(metadata.get("exact", True))  # sampling came later
    for name, found in statistics.items():
        if exact and found.histogram.total != found.count:
            raise ValueError(f"the histogram of tensor {name!r} does not add up")
    how = metadata["preprocessing"]
    return CalibrationTable(
        statistics=statistics,
        model_digest=metadata["model_digest"],
        model_name=metadata["model_name"],
        data_digest=format_digest(int(metadata["data_digest"], 16)),
        sample_count=int(metadata["sample_count"]),
        exact=exact,
        preprocessing=None if how is None else Preprocessing.from_json(how),
        tool_version=metadata["tool_version"],
    )
