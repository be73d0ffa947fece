"""A sample as the network saw it, as a small picture."""

import base64
import io

import numpy as np
from PIL import Image

from quantkit.calibration.preprocessing import Preprocessing
from quantkit.graph.program import Array

_LONGEST_SIDE, _QUALITY = 128, 80
_CHANNELS = (1, 3)


def sample_picture(array: Array, preprocessing: Preprocessing | None) -> str:
    """A JPEG in base64, at most 128 pixels wide and high.

    Args:
        array: A sample without batch axis.
        preprocessing: What made it of a picture, layout included; it is undone. None: the data were
            arrays; grey or in three channels, their least value becomes black and their greatest
            white.

    Returns:
        "" where the sample is no picture: not three-dimensional, or not of 1 or 3 channels.
    """
    layout = _layout(array, preprocessing)
    if layout is None:
        return ""
    pixels = np.asarray(array, np.float64)
    if layout == "NCHW":
        pixels = pixels.transpose(1, 2, 0)
    if preprocessing is None:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) * (255.0 / (high - low) if high > low else 0.0)
    else:
        pixels = pixels * np.array(preprocessing.std) + np.array(preprocessing.mean)
        if preprocessing.channel_order == "BGR":
            pixels = pixels[..., ::-1]
    codes = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    picture = Image.fromarray(codes[..., 0] if codes.shape[-1] == 1 else codes)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _layout(array: Array, preprocessing: Preprocessing | None) -> str | None:
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiu":
        return None
    layout = preprocessing.layout if preprocessing is not None else None
    for name, axis in (("NCHW", 0), ("NHWC", 2)):
        if layout in (None, name) and array.shape[axis] in _CHANNELS:
            return name
    return None
