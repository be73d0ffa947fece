"""Class labels from a CSV, an ``.npy`` or class folders, matched to the samples of a dataset."""

import csv
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from quantkit.calibration.array_files import read_whole
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.spool import one_line
from quantkit.errors import CalibrationError

_SHOWN = 3
_MOST_DIGITS = 18
_KINDS = "give a .csv with the header file,label, an .npy of integers, or a folder of class folders"


def read_labels(dataset: Dataset, source: str | Path | None) -> npt.NDArray[np.int64]:
    """A class per sample of the dataset.

    Args:
        dataset: The samples.
        source: A ``.csv`` with the header ``file,label``, matched by file name; an ``.npy`` of
            integers in the order of the data; a folder whose sub-folders are the classes; None: the
            data's own labels (``label`` in an ``.npz``, or class folders).

    Returns:
        int64, (number of samples,).

    Raises:
        CalibrationError: The labels cannot be read, or do not match the samples.
    """
    if source is None:
        return dataset.labels if dataset.labels is not None else _own_folders(dataset)
    path = Path(source)
    try:
        if source == "" or not path.exists():
            raise CalibrationError(f"labels {str(source)!r} do not exist")
        if path.is_dir():
            names = [entry.name for entry in path.iterdir() if entry.is_dir()]
            return labels_of_folders(dataset.sample_names, names, str(path))
        if not path.is_file():
            raise CalibrationError(f"labels {str(path)!r} are no regular file; {_KINDS}")
    except OSError as error:
        raise _unreadable(path, error) from error
    match path.suffix.lower():
        case ".csv":
            return _matched(dataset.sample_names, _read_csv(path), path)
        case ".npy":
            return _read_npy(dataset, path)
    raise CalibrationError(f"labels {str(path)!r}: {_KINDS}")


def labels_of_folders(
    sample_names: tuple[str, ...], classes: list[str], where: str
) -> npt.NDArray[np.int64]:
    """Labels from each sample's first folder.

    Folders all named by numbers mean these numbers; others are numbered in sorted order.

    Raises:
        CalibrationError: A sample lies in none of the folders.
    """
    classes = sorted(set(classes))
    numbered = all(_is_class_number(name) for name in classes)
    label_of = {name: int(name) if numbered else index for index, name in enumerate(classes)}
    folders = [PurePosixPath(name).parts[0] if "/" in name else None for name in sample_names]
    strays = [
        name for name, folder in zip(sample_names, folders, strict=True) if folder not in label_of
    ]
    if strays:
        raise CalibrationError(
            f"{where} gives no class for {len(strays)} of {len(sample_names)} samples "
            f"({_some(strays)}); put every picture into its class's folder, or give a .csv"
        )
    return np.array([label_of[folder] for folder in folders if folder is not None], np.int64)


def _own_folders(dataset: Dataset) -> npt.NDArray[np.int64]:
    names = dataset.source.names
    classes = [PurePosixPath(name).parts[0] for name in names if "/" in name]
    if not classes:
        raise CalibrationError(
            "the data hold no labels and lie in no class folders; give labels as a .csv with the "
            "header file,label, or as an .npy"
        )
    return labels_of_folders(dataset.sample_names, classes, "the folder structure")


def _read_csv(path: Path) -> dict[str, int]:
    labels: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                found = ",".join(reader.fieldnames or ()) or "empty"
                raise CalibrationError(
                    f"labels {str(path)!r}: the first line is {found}, "
                    "expected the header file,label"
                )
            for row in reader:
                if not _is_class_number((row["label"] or "").strip()):
                    raise CalibrationError(
                        f"labels {str(path)!r}, line {reader.line_num}: {row['label']!r} "
                        "is no class number"
                    )
                name, label = row["file"].replace("\\", "/"), int(row["label"])
                if labels.setdefault(name, label) != label:
                    raise CalibrationError(
                        f"labels {str(path)!r}, line {reader.line_num}: {name!r} has the classes "
                        f"{labels[name]} and {label}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    return labels


def _matched(
    sample_names: tuple[str, ...], labels: dict[str, int], path: Path
) -> npt.NDArray[np.int64]:
    """By relative path; else by the file's own name, where that says one class only."""
    by_file_name: dict[str, set[int]] = {}
    for name, label in labels.items():
        by_file_name.setdefault(PurePosixPath(name).name, set()).add(label)
    found: list[int] = []
    missing: list[str] = []
    for name in sample_names:
        candidates = by_file_name.get(PurePosixPath(name).name, set())
        if name in labels:
            found.append(labels[name])
        elif len(candidates) == 1:
            found.extend(candidates)
        else:
            missing.append(name)
    if missing:
        raise CalibrationError(
            f"labels {str(path)!r} do not match the data: {len(missing)} of {len(sample_names)} "
            f"samples have no label ({_some(missing)}), while the labels name "
            f"{_some(list(labels)) or 'nothing'}; the column 'file' must hold the file names"
        )
    return np.array(found, np.int64)


def _read_npy(dataset: Dataset, path: Path) -> npt.NDArray[np.int64]:
    try:
        labels = read_whole(path, "")
    except CalibrationError as error:
        raise CalibrationError(f"labels: {error}") from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise CalibrationError(
            f"labels {str(path)!r} are {labels.dtype} of shape {labels.shape}, "
            "expected a vector of integers"
        )
    labels = labels.astype(np.int64)
    total = len(dataset.source.names)
    if len(labels) == total:
        return labels[np.asarray(dataset.positions, np.intp)]
    if len(labels) == len(dataset):
        return labels
    raise CalibrationError(
        f"labels {str(path)!r} do not match the data: {len(labels)} labels for {total} samples"
    )


def _is_class_number(text: str) -> bool:
    """Whether a text is a number that int64 surely holds."""
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def _unreadable(path: Path, error: Exception) -> CalibrationError:
    return CalibrationError(f"labels {str(path)!r} cannot be read: {one_line(error)}")


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
