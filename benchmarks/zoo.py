"""Where the models and pictures are that are measured on; they are no part of the project."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.passes.prepare import prepare

CALIBRATION_PICTURES = 128


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the zoo, the preset its pictures need, and its title."""

    file: str
    preset: str
    title: str

    @property
    def path(self) -> Path:
        """The float model."""
        return zoo() / "models" / self.file


RESNET8 = Network("resnet8_cifar10.onnx", "raw", "ResNet-8")
DS_CNN = Network("kws_dscnn.onnx", "raw", "DS-CNN")
AUTOENCODER = Network("ad_autoencoder.onnx", "raw", "autoencoder")
WAKE_WORDS = Network("vww_mobilenet_v1.onnx", "unit", "MobileNetV1-0.25, visual wake words")
HAND_LANDMARK = Network("hand_landmark.onnx", "unit", "hand landmarks")

NETWORKS = (
    Network("mobilenet_v2.onnx", "imagenet", "MobileNetV2"),
    Network("mobilenet_v1_025.onnx", "tf", "MobileNetV1-0.25"),
)


def has_zoo() -> bool:
    """Whether the zoo is there; says so where what needs it is skipped."""
    missing = _missing()
    if missing:
        print(f"skipped: {missing}")
    return not missing


def zoo() -> Path:
    """The zoo's folder; leaves with a message where it is absent."""
    missing = _missing()
    if missing:
        sys.exit(missing)
    return _folder()


def pictures(network: Network, kind: str, count: int | None = None) -> Dataset:
    """The "calibration" or "validation" pictures as the network wants them."""
    return open_dataset(
        zoo() / "imagenet" / kind,
        prepare(network.path).program.inputs,
        preprocessing=PRESETS[network.preset],
        num_samples=count,
    )


def sounds(network: Network, kind: str, count: int | None = None) -> Dataset:
    """The "calibration" or "evaluation" keyword samples as arrays of the network's shape.

    The autoencoder has no data of its own in the zoo: its samples are 640 consecutive values of
    these.
    """
    with np.load(zoo() / "kws" / f"{kind}.npz") as arrays:
        values = arrays["input"]
    inputs = prepare(network.path).program.inputs
    shape = [size for size in (inputs[0].shape or ())[1:] if isinstance(size, int)]
    size = int(np.prod(shape))
    samples = values.reshape(-1)[: values.size // size * size].reshape(-1, *shape)
    return open_dataset(samples, inputs, preprocessing=None, num_samples=count)


def quantized_files() -> tuple[Path, ...]:
    """MobileNetV2 as other tools quantized it."""
    return tuple(sorted((zoo() / "quantized").glob("*.onnx")))


def labels() -> Path:
    """Labels of the validation pictures."""
    return zoo() / "imagenet" / "validation_labels.csv"


def _missing() -> str:
    """Why there is no zoo; empty where there is one."""
    if (_folder() / "models").is_dir():
        return ""
    return f"no models in {_folder()}: set QUANTKIT_ZOO to the zoo's folder"


def _folder() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "zoo"
    return Path(os.environ.get("QUANTKIT_ZOO", default))
