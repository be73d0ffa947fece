import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    asked = replace(PRESETS["unit"], layout="NHWC", size=(3, 12), crop=1.0)
    how = resolve(asked, spec("N", 3, "W", 3))
    assert (how.layout, how.size) == ("NHWC", (3, 12))
    full = preprocess(Image.new("RGB", (30, 30), (255, 0, 0)), how)
    np.testing.assert_array_equal(full[..., 0], np.ones((3, 12), np.float32))


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
        (spec("N", 3, 8, 8), replace(PRESETS["unit"], size=(8, 9)), "is 8×8, but the pictures'"),
        (spec("N", "H", 8, 3), replace(PRESETS["unit"], size=(9, 9)), "is H×8, but the pictures'"),
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
        ({"std": ()}, "mean and std need 1 or 3 values each, got 3 and 0"),
        ({"std": (1.0, 0.0, 1.0)}, "std > 0"),
        ({"mean": (1.0, float("nan"), 1.0)}, "mean must be finite"),
        ({"resize": "cubic"}, "unknown resize filter 'cubic'; known: nearest, box, bilinear"),
        ({"fit": "squash"}, "unknown fit 'squash'; known: crop, stretch, pad"),
        ({"crop": 0.0}, "crop is a fraction in (0, 1], got 0.0"),
        ({"crop": 1.5}, "crop is a fraction in (0, 1], got 1.5"),
        ({"layout": "CHWN"}, "layout is NCHW or NHWC, got 'CHWN'"),
        ({"channel_order": "GBR"}, "channel order is RGB or BGR, got 'GBR'"),
        ({"size": (0, 4)}, "size is a height and a width of 1 to 8192 pixels, got (0, 4)"),
        ({"size": (4,)}, "size is a height and a width"),
        ({"size": (8193, 1)}, "size is a height and a width of 1 to 8192 pixels, got (8193, 1)"),
    ],
)
def test_options_without_meaning(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(PRESETS["unit"], **change)


def test_one_value_serves_all_channels() -> None:
    assert replace(PRESETS["raw"], std=(255.0,)) == PRESETS["unit"]
    assert replace(PRESETS["tf"], mean=(127.5,)) == PRESETS["tf"]
    assert resolve(replace(PRESETS["raw"], std=(2.0,)), spec("N", 1, 8, 8)).std == (2.0,)


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_filters_are_pillows(name: str) -> None:
    image = picture(40, 40)
    how = resolve(replace(PRESETS["raw"], resize=name, crop=1.0), spec("N", 3, 9, 14))
    expected = np.asarray(image.resize((14, 9), Image.Resampling[name.upper()]), np.float32)
    np.testing.assert_array_equal(preprocess(image, how), expected.transpose(2, 0, 1))


@pytest.mark.parametrize(("fit", "crop"), [("crop", 0.875), ("stretch", 1.0), ("pad", 1.0)])
def test_each_fit_has_its_own_crop(fit: Any, crop: float) -> None:
    model_input = spec("N", 3, 8, 8)
    assert resolve(replace(PRESETS["unit"], fit=fit), model_input).crop == crop
    assert resolve(replace(PRESETS["unit"], fit=fit, crop=0.5), model_input).crop == 0.5


@pytest.mark.parametrize(("crop", "box"), [(None, (0, 0, 60, 30)), (0.5, (15, 7.5, 45, 22.5))])
def test_stretch_takes_the_whole_picture(
    crop: float | None, box: tuple[float, float, float, float]
) -> None:
    image = picture(60, 30)
    how = resolve(replace(PRESETS["raw"], fit="stretch", crop=crop), spec("N", 3, 20, 10))
    expected = image.resize((10, 20), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(
        preprocess(image, how), np.asarray(expected, np.float32).transpose(2, 0, 1)
    )


@pytest.mark.parametrize(
    ("shape", "size", "inside"),
    [
        ((60, 30), (20, 20), (slice(5, 15), slice(0, 20))),
        ((30, 60), (20, 20), (slice(0, 20), slice(5, 15))),
        ((60, 30), (48, 192), (slice(0, 48), slice(48, 144))),
        ((30, 30), (20, 20), (slice(0, 20), slice(0, 20))),
        ((300, 1), (8, 8), (slice(3, 4), slice(0, 8))),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pad_keeps_proportions_and_pads_with_zeros(
    shape: tuple[int, int], size: tuple[int, int], inside: tuple[slice, slice], layout: Any
) -> None:
    image = picture(*shape)
    asked = replace(PRESETS["imagenet"], fit="pad", size=size, layout=layout, channel_order="BGR")
    model_input = spec("N", 3, "H", "W") if layout == "NCHW" else spec("N", "H", "W", 3)
    found = preprocess(image, resolve(asked, model_input))
    assert found.flags.c_contiguous
    rows = found.transpose(1, 2, 0) if layout == "NCHW" else found
    height, width = (part.stop - part.start for part in inside)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    mean, std = (np.array(values, np.float32) for values in FORMULA_MEAN_STD["imagenet"])
    expected = np.zeros((*size, 3), np.float32)
    expected[inside] = (pixels[..., ::-1] - mean) / std
    np.testing.assert_array_equal(rows, expected)


def test_channel_order_that_nobody_says_is_rgb() -> None:
    assert PRESETS["unit"].channel_order is None
    assert resolve(PRESETS["unit"], spec("N", 3, 8, 8)).channel_order == "RGB"


FINITE = st.floats(-1e6, 1e6)
ANY = st.integers(0, 1).flatmap(
    lambda grey: st.builds(
        Preprocessing,
        mean=st.tuples(*[FINITE] * (3 - 2 * grey)),
        std=st.tuples(*[st.floats(1e-6, 1e6)] * (3 - 2 * grey)),
        resize=st.sampled_from(["nearest", "bilinear", "lanczos"]),
        fit=st.sampled_from(["crop", "stretch", "pad"]),
        crop=st.none() | st.floats(0, 1, exclude_min=True),
        layout=st.sampled_from([None, "NCHW", "NHWC"]),
        channel_order=st.sampled_from([None, "RGB", "BGR"]),
        size=st.none() | st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    )
)


@given(ANY)
def test_json_holds_every_field(how: Preprocessing) -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(how.to_json()))) == how


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(["crop", "stretch", "pad"]),
    crop=st.none() | st.floats(0.1, 1),
    name=st.sampled_from(["nearest", "box", "hamming"]),
)
def test_any_picture_fits_any_size(
    width: int, height: int, size: tuple[int, int], fit: Any, crop: float | None, name: str
) -> None:
    asked = replace(PRESETS["tf"], size=size, fit=fit, crop=crop, resize=name)
    found = preprocess(picture(width, height), resolve(asked, spec("N", 3, "H", "W")))
    assert found.shape == (3, *size)
    assert (np.abs(found) <= 1).all()


def test_files_without_the_newer_fields_are_read() -> None:
    old = {
        "mean": [0.0, 0.0, 0.0],
        "std": [255.0, 255.0, 255.0],
        "resize": "bilinear",
        "crop": 0.875,
        "layout": "NCHW",
        "channel_order": "RGB",
        "size": [224, 224],
    }
    assert Preprocessing.from_json(old) == resolve(PRESETS["unit"], spec("N", 3, 224, 224))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_json_round_trip(preset: str) -> None:
    how = resolve(PRESETS[preset], spec("N", 3, 224, 192))
    assert Preprocessing.from_json(how.to_json()) == how
    assert Preprocessing.from_json(PRESETS[preset].to_json()) == PRESETS[preset]


def test_json_of_another_kind_is_refused() -> None:
    good = PRESETS["unit"].to_json()
    with pytest.raises(ConfigError, match=r"has the fields .*extra.*, expected channel_order"):
        Preprocessing.from_json({**good, "extra": 1})
    with pytest.raises(ConfigError, match=r"has the fields .*, expected .*mean"):
        Preprocessing.from_json({name: good[name] for name in good if name != "mean"})
    with pytest.raises(ConfigError, match="has a value of the wrong type"):
        Preprocessing.from_json({**good, "mean": 3})
