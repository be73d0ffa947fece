"""From a decoded picture to the array a network wants.

    array = (resize(centre of the picture) - mean) / std

All presets cut the centre square of 0.875 x the shorter side and resize it straight to the
network's size, bilinear with antialias; they differ in mean and std. Other ways to fit a picture
into the network's size are "stretch" and "pad" (:class:`Preprocessing`).
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from quantkit.errors import ConfigError, UnknownNameError
from quantkit.graph.program import Dimension, TensorSpec

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["RGB", "BGR"]
Fit = Literal["crop", "stretch", "pad"]

# Pillow's filters widen with the reduction factor, which is what other tools call antialias.
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# The share of a picture that each fit keeps unless told otherwise.
_CROPS: Mapping[str, float] = MappingProxyType({"crop": 0.875, "stretch": 1.0, "pad": 1.0})
_CHANNEL_COUNTS = (1, 3)
# In pixels; three channels of that height and width are 0.8 GB.
_LARGEST_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pictures become arrays.

    ``fit`` says how a picture of any shape fills the network's height and width:

    - "crop": the centre square of ``crop`` x the shorter side is resized to them. Where they
      differ from each other this distorts; the other two use more of the picture.
    - "stretch": the centre rectangle of ``crop`` x width and ``crop`` x height is resized to them,
      whatever its proportions.
    - "pad": the same rectangle is resized until it just fits, proportions kept (to a whole pixel),
      and centred (letterbox). What is left of it is padded with ``mean``, which is 0 in the array,
      as a convolution's own padding.

    Attributes:
        mean: Subtracted, in units of the 0..255 pixel values; one value for all channels or one
            per channel, in the network's channel order.
        std: Divided by after that; same unit and order as ``mean``. Where one of the two has a
            single value and the other three, it is repeated.
        resize: Pillow's filter: "nearest", "box", "bilinear", "hamming", "bicubic" or "lanczos";
            all but "nearest" with antialias.
        fit: "crop", "stretch" or "pad".
        crop: Fraction that is kept, in (0, 1]; None: 0.875 for "crop", 1 for the others.
        layout: "NCHW" or "NHWC"; None: what the model's input says.
        channel_order: "RGB" or "BGR", without meaning for grey networks; None: what the model's
            metadata say (:mod:`quantkit.calibration.image_metadata`), otherwise RGB.
        size: Height and width in pixels, up to 8192; None: what the model's input says.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "bilinear"
    fit: Fit = "crop"
    crop: float | None = None
    layout: Layout | None = None
    channel_order: ChannelOrder | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not {len(self.mean), len(self.std)} <= {*_CHANNEL_COUNTS}:
            raise ConfigError(
                f"mean and std need 1 or 3 values each, got {len(self.mean)} and {len(self.std)}"
            )
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise ConfigError(f"mean must be finite and std > 0, got {self.mean} and {self.std}")
        if len(self.mean) != len(self.std):
            object.__setattr__(self, "mean", self.mean * (3 // len(self.mean)))
            object.__setattr__(self, "std", self.std * (3 // len(self.std)))
        if self.resize not in _FILTERS:
            raise ConfigError(
                f"unknown resize filter {self.resize!r}; known: {', '.join(_FILTERS)}"
            )
        if self.fit not in _CROPS:
            raise ConfigError(f"unknown fit {self.fit!r}; known: {', '.join(_CROPS)}")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ConfigError(f"crop is a fraction in (0, 1], got {self.crop}")
        if self.layout not in (None, "NCHW", "NHWC"):
            raise ConfigError(f"layout is NCHW or NHWC, got {self.layout!r}")
        if self.channel_order not in (None, "RGB", "BGR"):
            raise ConfigError(f"channel order is RGB or BGR, got {self.channel_order!r}")
        if self.size is not None and (
            len(self.size) != 2 or not 1 <= min(self.size) <= max(self.size) <= _LARGEST_SIDE
        ):
            raise ConfigError(
                f"size is a height and a width of 1 to {_LARGEST_SIDE} pixels, got {self.size}"
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Inverse of :meth:`to_json`; fields that older files lack have their defaults.

        Raises:
            ConfigError: A field without default is missing, or one is unknown or has no meaning.
        """
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not needed <= set(values) <= names:
            raise ConfigError(
                f"preprocessing has the fields {', '.join(sorted(values))}, "
                f"expected {', '.join(sorted(names))}"
            )
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"preprocessing has a value of the wrong type: {error}") from error


PRESETS: Mapping[str, Preprocessing] = MappingProxyType(
    {
        "imagenet": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        "tf": Preprocessing((127.5,) * 3, (127.5,) * 3),
        "unit": Preprocessing((0.0,) * 3, (255.0,) * 3),
        "raw": Preprocessing((0.0,) * 3, (1.0,) * 3),
    }
)
"""By name: (x/255 - ImageNet's mean) / its std; (x - 127.5) / 127.5; x / 255; x."""


def named(preprocessing: Preprocessing | str | None) -> Preprocessing | None:
    """The preset of that name; anything but a name as it is.

    Raises:
        UnknownNameError: No such preset.
    """
    if not isinstance(preprocessing, str):
        return preprocessing
    if preprocessing not in PRESETS:
        raise UnknownNameError(
            f"unknown preset {preprocessing!r}; known: {', '.join(sorted(PRESETS))}"
        )
    return PRESETS[preprocessing]


def resolve(preprocessing: Preprocessing, spec: TensorSpec) -> Preprocessing:
    """Fill in layout, size and number of channels from the model's input, and what is left open.

    What ``preprocessing`` says itself wins over the model, but for a size that is fixed there.

    Args:
        preprocessing: As the user asked for it.
        spec: The input: (N, C, H, W) or (N, H, W, C) with C of 1 or 3.

    Returns:
        Preprocessing without None, and with a mean and std per channel of the network.

    Raises:
        ConfigError: The input is no picture, of another size, or leaves open what the options do.
    """
    shape = spec.shape or ()
    if len(shape) != 4:
        raise ConfigError(
            f"input {spec.name!r} of shape {_text(shape)} takes no pictures; "
            "give arrays (.npy, .npz)"
        )
    layout = preprocessing.layout or _layout_of(spec.name, shape)
    channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], *shape[1:3])
    if isinstance(channels, int) and channels not in _CHANNEL_COUNTS:
        raise ConfigError(
            f"input {spec.name!r} of shape {_text(shape)} has {channels} channels as {layout}, "
            "pictures have 1 or 3; give arrays (.npy, .npz) or another layout"
        )
    size = preprocessing.size
    if size is None:
        if not (isinstance(height, int) and isinstance(width, int)):
            raise ConfigError(
                f"input {spec.name!r} of shape {_text(shape)} has no fixed height and width; "
                "give the size of the pictures (--size 224x224)"
            )
        size = (height, width)
    elif any(isinstance(d, int) and d != s for d, s in zip((height, width), size, strict=True)):
        raise ConfigError(
            f"input {spec.name!r} is {_text((height, width))}, but the pictures' size is to be "
            f"{_text(size)}; leave out the size (--size)"
        )
    count = channels if isinstance(channels, int) else 3
    resolved = replace(
        preprocessing,
        mean=_per_channel(preprocessing.mean, count, spec.name),
        std=_per_channel(preprocessing.std, count, spec.name),
        crop=preprocessing.crop or _CROPS[preprocessing.fit],
        layout=layout,
        channel_order=preprocessing.channel_order or "RGB",
        size=size,
    )
    if spec.dtype.kind in "iu" and (set(resolved.mean), set(resolved.std)) != ({0.0}, {1.0}):
        raise ConfigError(
            f"input {spec.name!r} is {spec.dtype}: it takes pixel values as they are; "
            "use the preset raw"
        )
    return resolved


def preprocess(picture: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Fit one picture into the network's size, normalize it and lay it out.

    Args:
        picture: Mode "L" for a mean of one value, "RGB" for three.
        preprocessing: What :func:`resolve` returned.

    Returns:
        float32, (C, H, W) or (H, W, C), C-contiguous.
    """
    assert preprocessing.size is not None
    assert preprocessing.crop is not None
    height, width = preprocessing.size
    box = _kept(picture.size, preprocessing.fit, preprocessing.crop)
    across, down = width, height
    if preprocessing.fit == "pad":
        across, down = _largest_inside(box, width, height)
    resized = picture.resize((across, down), _FILTERS[preprocessing.resize], box=box)
    pixels = np.asarray(resized, np.float32).reshape(down, across, len(preprocessing.mean))
    if preprocessing.channel_order == "BGR":
        pixels = pixels[..., ::-1]
    mean = np.array(preprocessing.mean, np.float32)
    std = np.array(preprocessing.std, np.float32)
    array: npt.NDArray[np.float32] = (pixels - mean) / std
    if (across, down) != (width, height):
        left, top = (width - across) // 2, (height - down) // 2
        padded = np.zeros((height, width, mean.size), np.float32)
        padded[top : top + down, left : left + across] = array
        array = padded
    if preprocessing.layout == "NCHW":
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array)


def _kept(size: tuple[int, int], fit: Fit, crop: float) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of what is kept of a picture of that width and height."""
    width, height = (crop * side for side in size)
    if fit == "crop":
        width = height = min(size) * crop
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _largest_inside(
    box: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int]:
    """The box's width and height in whole pixels, scaled until it just fits."""
    box_width, box_height = box[2] - box[0], box[3] - box[1]
    scale = min(width / box_width, height / box_height)
    return max(1, round(box_width * scale)), max(1, round(box_height * scale))


def _layout_of(name: str, shape: tuple[Dimension, ...]) -> Layout:
    if shape[1] in _CHANNEL_COUNTS:
        return "NCHW"
    if shape[3] in _CHANNEL_COUNTS:
        return "NHWC"
    raise ConfigError(
        f"input {name!r} of shape {_text(shape)} has no axis of 1 or 3 channels where NCHW or NHWC "
        "has it; give the layout, or arrays (.npy, .npz)"
    )


def _per_channel(values: tuple[float, ...], channels: int, name: str) -> tuple[float, ...]:
    if len(values) == channels:
        return values
    if len(set(values)) != 1:
        raise ConfigError(
            f"input {name!r} is grey, but mean or std differ per channel {values}; "
            "give one value each"
        )
    return (values[0],) * channels


def _text(shape: tuple[Dimension, ...]) -> str:
    return "×".join("?" if dimension is None else str(dimension) for dimension in shape) or "()"
