import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quantkit.calibration.preprocessing import PRESETS, Preprocessing, preprocess, resolve
from quantkit.errors import ConfigError
from quantkit.graph.program import Dimension, TensorSpec

FORMULA_MEAN_STD = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "tf": ((127.5,) * 3, (127.5,) * 3),
    "unit": ((0.0,) * 3, (255.0,) * 3),
    "raw": ((0.0,) * 3, (1.0,) * 3),
}


def formula(
    picture: Image.Image, preset: str, width: int = 224, height: int = 224
) -> npt.NDArray[Any]:
    """The array that shared/compare/arrays.py makes for the other tools, in its own words."""
    mean, std = FORMULA_MEAN_STD[preset]
    im = picture.convert("RGB")
    w, h = im.size
    side = min(w, h) * 0.875
    box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    im = im.resize((width, height), Image.Resampling.BILINEAR, box=box)
    array = (np.asarray(im, np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    return array.transpose(2, 0, 1)


def spec(*shape: Dimension, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("input", np.dtype(dtype), shape)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = len(mode)
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, bands), np.uint8)
    return Image.fromarray(pixels if bands > 1 else pixels[..., 0])


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("shape", [(256, 301), (500, 375), (227, 227), (91, 133)])
def test_presets_equal_the_formula_of_the_comparisons_bit_for_bit(
    preset: str, shape: tuple[int, int]
) -> None:
    image = picture(*shape)
    how = resolve(PRESETS[preset], spec("N", 3, 224, 224))
    got = preprocess(image, how)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, formula(image, preset))


def test_layouts_hold_the_same_pixels() -> None:
    image = picture(50, 40)
    nchw = preprocess(image, resolve(PRESETS["imagenet"], spec("N", 3, 32, 24)))
    nhwc = preprocess(image, resolve(PRESETS["imagenet"], spec(1, 32, 24, 3)))
    assert nchw.shape == (3, 32, 24)
    assert nhwc.shape == (32, 24, 3)
    np.testing.assert_array_equal(nchw, formula(image, "imagenet", width=24, height=32))
    np.testing.assert_array_equal(nchw, nhwc.transpose(2, 0, 1))


def test_bgr_reverses_pixels_and_reads_mean_in_the_networks_order() -> None:
    image = picture(50, 40)
    rgb = PRESETS["imagenet"]
    bgr = replace(rgb, channel_order="BGR", mean=rgb.mean[::-1], std=rgb.std[::-1])
    model_input = spec("N", 3, 32, 32)
    np.testing.assert_array_equal(
        preprocess(image, resolve(bgr, model_input)),
        preprocess(image, resolve(rgb, model_input))[::-1],
    )


def test_grey_network() -> None:
    how = resolve(PRESETS["tf"], spec("N", 1, 8, 8))
    assert how.mean == (127.5,)
    assert preprocess(picture(20, 20, "L"), how).shape == (1, 8, 8)


def test_explicit_options_win_over_the_model() -> None:
    asked = replace(PRESETS["unit"], layout="NHWC", size=(10, 12), crop=1.0)
    how = resolve(asked, spec("N", 3, 224, 3))
    assert (how.layout, how.size) == ("NHWC", (10, 12))
    full = preprocess(Image.new("RGB", (30, 30), (255, 0, 0)), how)
    np.testing.assert_array_equal(full[..., 0], np.ones((10, 12), np.float32))


@pytest.mark.parametrize(
    ("model_input", "asked", "message"),
    [
        (spec("N", 640), PRESETS["unit"], "of shape N×640 takes no pictures; give arrays"),
        (spec("N", 3, "H", None), PRESETS["unit"], "N×3×H×? has no fixed height and width"),
        (spec("N", 8, 9, 9), PRESETS["unit"], "no axis of 1 or 3 channels"),
        (
            spec("N", 8, 9, 9),
            replace(PRESETS["unit"], layout="NCHW"),
            "has 8 channels as NCHW, pictures have 1 or 3",
        ),
        (spec("N", 1, 8, 8), PRESETS["imagenet"], "is grey, but mean or std differ"),
        (spec("N", 3, 8, 8, dtype="uint8"), PRESETS["unit"], "is uint8: it takes pixel values"),
    ],
)
def test_refused_inputs(model_input: TensorSpec, asked: Preprocessing, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve(asked, model_input)


def test_dynamic_size_and_channels_need_only_a_size() -> None:
    how = resolve(replace(PRESETS["unit"], size=(4, 6), layout="NCHW"), spec("N", None, "H", "W"))
    assert preprocess(picture(20, 20), how).shape == (3, 4, 6)


def test_integer_input_takes_raw_pixels() -> None:
    assert resolve(PRESETS["raw"], spec("N", 3, 8, 8, dtype="uint8")).size == (8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (1.0, 2.0)}, "mean and std need 1 or 3 values each, got 2 and 3"),
        ({"std": (1.0,)}, "mean and std need 1 or 3 values each, got 3 and 1"),
        ({"std": (1.0, 0.0, 1.0)}, "std > 0"),
        ({"mean": (1.0, float("nan"), 1.0)}, "mean must be finite"),
        ({"resize": "lanczos"}, "unknown resize filter 'lanczos'; known: bilinear"),
        ({"crop": 0.0}, "crop is a fraction in (0, 1], got 0.0"),
        ({"crop": 1.5}, "crop is a fraction in (0, 1], got 1.5"),
        ({"layout": "CHWN"}, "layout is NCHW or NHWC, got 'CHWN'"),
        ({"channel_order": "GBR"}, "channel order is RGB or BGR, got 'GBR'"),
        ({"size": (0, 4)}, "size is a height and a width of at least 1 pixel, got (0, 4)"),
        ({"size": (4,)}, "size is a height and a width"),
    ],
)
def test_options_without_meaning(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(PRESETS["unit"], **change)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_json_round_trip(preset: str) -> None:
    how = resolve(PRESETS[preset], spec("N", 3, 224, 192))
    assert Preprocessing.from_json(how.to_json()) == how
    assert Preprocessing.from_json(PRESETS[preset].to_json()) == PRESETS[preset]


def test_json_of_another_kind_is_refused() -> None:
    good = PRESETS["unit"].to_json()
    with pytest.raises(ConfigError, match=r"has the fields .*extra.*, expected channel_order"):
        Preprocessing.from_json({**good, "extra": 1})
    with pytest.raises(ConfigError, match="has a value of the wrong type"):
        Preprocessing.from_json({**good, "mean": 3})
