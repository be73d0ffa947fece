"""What a model's own metadata say about the pictures it wants.

ONNX's image metadata (docs/MetadataProps.md of the ONNX repository; keys and values are case
insensitive): ``Image.BitmapPixelFormat`` has the channel order and is followed;
``Image.NominalPixelRange`` has the range of the values, which leaves the mean of each channel open,
so it is only a hint.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from quantkit.calibration.preprocessing import ChannelOrder, Preprocessing

_PIXEL_FORMAT = "Image.BitmapPixelFormat"
_PIXEL_RANGE = "Image.NominalPixelRange"
_CHANNEL_ORDERS: Mapping[str, ChannelOrder] = MappingProxyType(
    {"rgb8": "RGB", "rgba8": "RGB", "bgr8": "BGR", "bgra8": "BGR"}
)
# The range of values, and the preset that makes it of pixels.
_RANGES = MappingProxyType(
    {
        "nominalrange_0_255": (0.0, 255.0, "raw"),
        "normalized_0_1": (0.0, 1.0, "unit"),
        "normalized_1_1": (-1.0, 1.0, "tf"),
    }
)


def follow_metadata(preprocessing: Preprocessing, metadata: Mapping[str, str]) -> Preprocessing:
    """Fill in the channel order from the model's metadata where ``preprocessing`` leaves it open.

    The mean and std stay in the order of the network's channels.

    Args:
        preprocessing: As the user asked for it.
        metadata: All of the model's metadata.
    """
    order = _CHANNEL_ORDERS.get(_entry(metadata, _PIXEL_FORMAT))
    if preprocessing.channel_order is not None or order is None:
        return preprocessing
    return replace(preprocessing, channel_order=order)


def range_hint(preprocessing: Preprocessing | None, metadata: Mapping[str, str]) -> str | None:
    """A sentence where the metadata name another range of values than the preprocessing makes.

    Args:
        preprocessing: What pictures go through; None: not said yet, so that the hint is a proposal.
        metadata: All of the model's metadata.

    Returns:
        The sentence, or None: the metadata name no range that a preset makes, or the same one.
    """
    wanted = _RANGES.get(_entry(metadata, _PIXEL_RANGE))
    if wanted is None:
        return None
    low, high, preset = wanted
    says = f"the model's metadata say that its pictures hold values of {low:g} to {high:g}"
    if preprocessing is None:
        return f"{says}: --preset {preset}"
    pairs = tuple(zip(preprocessing.mean, preprocessing.std, strict=True))
    made = min(-mean / std for mean, std in pairs), max((255 - mean) / std for mean, std in pairs)
    # Within one pixel value: 127 and 128 are both in use for 127.5.
    if all(abs(a - b) <= (high - low) / 255 for a, b in zip(made, (low, high), strict=True)):
        return None
    return (
        f"{says}, the preprocessing makes {made[0]:.3g} to {made[1]:.3g} of them; "
        f"--preset {preset} makes the former"
    )


def _entry(metadata: Mapping[str, str], key: str) -> str:
    """The value of a key, in lower case; "" where absent."""
    folded = {name.lower(): value.strip().lower() for name, value in metadata.items()}
    return folded.get(key.lower(), "")
