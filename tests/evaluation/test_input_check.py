"""Data that do not look like the training data, and data that do."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration.preprocessing import (
    PRESETS,
    ChannelOrder,
    Preprocessing,
    preprocess,
    resolve,
)
from quantkit.calibration.statistics import TensorStatistics, statistics_of_sample
from quantkit.calibration.table import CalibrationTable
from quantkit.evaluation.first_layer import first_layer
from quantkit.evaluation.input_check import input_warnings
from quantkit.graph.program import Array, TensorSpec
from quantkit.passes.prepare import Prepared, prepare
from tests.models import network, normal

SIZE = 32
FILTERS = 24
SPEC = TensorSpec("x", np.dtype(np.float32), ("N", 3, SIZE, SIZE))
BN = "n = BatchNormalization (c, gamma, beta, mean, variance)  y = Relu (n)"
PIXEL_MEAN = np.array([124.0, 116.0, 104.0])


def photographs(count: int, seed: int = 0) -> Array:
    """Smooth pixel values with the means, contrast and correlations of photographs.

    Returns:
        uint8, (count, SIZE, SIZE, 3).
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        grey, colour = rng.normal(0, 62, (4, 4)), rng.normal(0, 18, (3, 4, 4))
        bands = [
            np.asarray(Image.fromarray(grey + band).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
            for band in colour
        ]
        fine = rng.normal(0, 8, (SIZE, SIZE, 1))
        pictures.append(np.stack(bands, axis=-1) * 1.35 + PIXEL_MEAN + fine)
    pixels: Array = np.clip(np.stack(pictures), 0, 255).astype(np.uint8)
    return pixels


def made_by(how: Preprocessing, pictures: Array) -> list[Array]:
    whole = resolve(replace(how, crop=1.0), SPEC)
    return [preprocess(Image.fromarray(picture), whole) for picture in pictures]


@cache
def trained_network(how: Preprocessing) -> Prepared:
    """Conv and BatchNormalization that has seen other pictures, made by ``how``."""
    weight = normal(FILTERS, 3, 3, 3) + 0.5 * normal(FILTERS, 3, 1, 1, seed=1)
    weight[: FILTERS // 2] += 0.5 * normal(FILTERS // 2, 1, 1, 1, seed=2)
    x = np.stack(made_by(how, photographs(96, seed=1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    seen = np.einsum("nchwij,ocij->ohwn", windows, weight).reshape(FILTERS, -1)
    weights = {
        "w": weight,
        "gamma": np.linspace(0.5, 2, FILTERS, dtype=np.float32),
        "beta": normal(FILTERS),
        "mean": seen.mean(axis=1).astype(np.float32),
        "variance": seen.var(axis=1).astype(np.float32),
    }
    body = f"c = Conv (x, w)  {BN}"
    return prepare(network(body, weights, inputs=f"float[N,3,{SIZE},{SIZE}] x"))


def joined(samples: Sequence[Array]) -> TensorStatistics:
    whole = statistics_of_sample(samples[0][None])
    for sample in samples[1:]:
        whole = whole.merge(statistics_of_sample(sample[None]))
    return whole


def table_of(
    samples: Sequence[Array], how: Preprocessing | None = None, name: str = "x"
) -> CalibrationTable:
    return CalibrationTable(
        statistics={name: joined(samples)},
        model_digest="",
        model_name="",
        data_digest="0",
        sample_count=len(samples),
        exact=True,
        preprocessing=None if how is None else resolve(how, SPEC),
        tool_version="",
    )


@pytest.mark.parametrize("fed", sorted(PRESETS))
@pytest.mark.parametrize("wanted", sorted(PRESETS))
@pytest.mark.parametrize("count", [8, 64])
def test_another_preset_is_told_and_the_right_one_passes(wanted: str, fed: str, count: int) -> None:
    prepared, pictures = trained_network(PRESETS[wanted]), photographs(count)
    samples = made_by(PRESETS[fed], pictures)
    found = input_warnings(prepared, table_of(samples, PRESETS[fed]))
    if fed == wanted:
        assert not found
        assert not input_warnings(prepared, table_of(samples))
    else:
        (sentence,) = found
        assert sentence.startswith("input 'x' does not look like what the network was trained on: ")
        assert f"--preset {wanted} fits its first layer" in sentence
        (of_arrays,) = input_warnings(prepared, table_of(samples))
        assert "--preset" not in of_arrays


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_exchanged_colours_are_told(order: str) -> None:
    rgb, bgr = (replace(PRESETS["tf"], channel_order=name) for name in ("RGB", "BGR"))
    wanted, fed = (rgb, bgr) if order == "RGB" else (bgr, rgb)
    prepared, pictures = trained_network(wanted), photographs(64)
    assert not input_warnings(prepared, table_of(made_by(wanted, pictures), wanted))
    samples = made_by(fed, pictures)
    (sentence,) = input_warnings(prepared, table_of(samples, fed))
    assert sentence.startswith("red and blue of input 'x' look exchanged")
    assert sentence.endswith(f"with --channel-order {order}")
    (of_arrays,) = input_warnings(prepared, table_of(samples))
    assert "look exchanged, or its channels otherwise out of order: " in of_arrays
    assert of_arrays.endswith("with the channels reversed")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x * [0.6, 0.9, 1.0]).astype(np.uint8),
        lambda x: (x * [1.0, 0.7, 0.4]).astype(np.uint8),
        lambda x: x // 4,
        lambda x: (x * 0.12).astype(np.uint8),
        lambda x: 255 - x // 4,
        lambda x: 100 + x // 8,
    ],
    ids=["bluish", "reddish", "dark", "night", "bright", "flat"],
)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_unusual_pictures_pass(change: Callable[[Array], Array], preset: str) -> None:
    prepared, pictures = trained_network(PRESETS[preset]), change(photographs(16))
    samples = made_by(PRESETS[preset], pictures)
    assert not input_warnings(prepared, table_of(samples, PRESETS[preset]))


def test_few_samples_are_not_judged_but_where_far_off() -> None:
    prepared, few = trained_network(PRESETS["imagenet"]), photographs(7)
    (sentence,) = input_warnings(prepared, table_of(made_by(PRESETS["tf"], few), PRESETS["tf"]))
    assert sentence.startswith("ranges from 7 samples")
    exchanged = replace(PRESETS["imagenet"], channel_order="BGR")
    (sentence,) = input_warnings(prepared, table_of(made_by(exchanged, few), exchanged))
    assert sentence.startswith("ranges from 7 samples")
    _, far = input_warnings(prepared, table_of(made_by(PRESETS["raw"], few), PRESETS["raw"]))
    assert "--preset imagenet fits its first layer" in far


def test_values_far_off_are_told_where_no_preset_helps() -> None:
    prepared = trained_network(PRESETS["unit"])
    samples = [normal(3, SIZE, SIZE, seed=seed) + 5000 for seed in range(8)]
    (sentence,) = input_warnings(prepared, table_of(samples))
    assert "(mean" not in sentence
    assert sentence.startswith("input 'x' holds values from 499")
    assert "standard deviations off; check how the data are scaled" in sentence


SCALED = "check how the data are scaled"


@pytest.mark.parametrize("factor", [1e6, 100.0, 10.0, 0.1, 1 / 255, 1e-6])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_another_scale_is_told_of_arrays_and_of_pictures(preset: str, factor: float) -> None:
    wanted, pictures = PRESETS[preset], photographs(8)
    prepared = trained_network(wanted)
    samples = [sample * np.float32(factor) for sample in made_by(wanted, pictures)]
    how = replace(wanted, std=tuple(value / factor for value in wanted.std))
    for table in (table_of(samples), table_of(made_by(how, pictures), how)):
        (sentence,) = input_warnings(prepared, table)
        assert SCALED in sentence or "fits its first layer" in sentence


def test_what_pictures_reach_is_said() -> None:
    prepared, pictures = trained_network(PRESETS["imagenet"]), photographs(8)
    twice = [(x - 120) / 58 for x in made_by(PRESETS["imagenet"], pictures)]
    (sentence,) = input_warnings(prepared, table_of(twice))
    assert "was trained on: pictures from -2.12 to 2.64, ImageNet's (x / 255" in sentence
    assert sentence.endswith(SCALED)


def test_narrow_values_of_few_samples_may_be_right() -> None:
    prepared = trained_network(PRESETS["unit"])
    flat = [sample / 20 + 0.4 for sample in made_by(PRESETS["unit"], photographs(8))]
    assert SCALED in input_warnings(prepared, table_of(flat))[-1]
    assert len(input_warnings(prepared, table_of(flat[:7]))) == 1


@cache
def trained_on_noise() -> Prepared:
    """One channel; trained on independent values of mean 0 and standard deviation 5."""
    weight = normal(FILTERS, 1, 3, 3)
    weights = {
        "w": weight,
        "gamma": 5 * np.sqrt((weight**2).sum(axis=(1, 2, 3))),
        "beta": np.zeros(FILTERS, np.float32),
        "mean": np.zeros(FILTERS, np.float32),
        "variance": (5 * np.sqrt((weight**2).sum(axis=(1, 2, 3)))) ** 2,
    }
    body = f"c = Conv (x, w)  {BN}"
    return prepare(network(body, weights, inputs=f"float[N,1,{SIZE},{SIZE}] x"))


@pytest.mark.parametrize(
    ("factor", "said"), [(50.0, "at least"), (2.0, ""), (1.0, ""), (0.3, ""), (0.02, "at most")]
)
def test_data_that_are_no_pictures_have_a_scale_too(factor: float, said: str) -> None:
    samples = [5 * factor * normal(1, SIZE, SIZE, seed=seed) for seed in range(8)]
    found = input_warnings(trained_on_noise(), table_of(samples))
    if not said:
        assert not found
    else:
        (sentence,) = found
        assert f"they spread there {said} " in sentence
        assert sentence.endswith(SCALED)


def test_constant_data_and_few_samples() -> None:
    prepared = prepare(network("y = Relu (x)", {}))
    zeros = np.zeros((3, 8, 8), np.float32)
    assert input_warnings(prepared, table_of([zeros] * 8)) == (
        "input 'x' is 0 throughout all samples",
    )
    far = input_warnings(trained_network(PRESETS["raw"]), table_of([zeros - 9000] * 8))
    assert far == ("input 'x' is -9000 throughout all samples",)
    one_constant = normal(3, 8, 8)
    one_constant[1] = 0.5
    assert input_warnings(prepared, table_of([one_constant] * 7)) == (
        "ranges from 7 samples hang on single values; calibrate on at least 8",
        "channel 1 of input 'x' is 0.5 in all samples",
    )


def test_networks_without_batch_normalization_say_nothing() -> None:
    prepared = prepare(network("y = Conv (x, w)", {"w": normal(4, 3, 3, 3)}))
    assert first_layer(prepared, "x") is None
    assert not input_warnings(prepared, table_of([normal(3, 8, 8) * 1000] * 8))


ORDERS: tuple[ChannelOrder, ...] = ("RGB", "BGR")
ZOO = {
    "mobilenet_v2": ("imagenet", "RGB"),
    "mobilenet_v1_025": ("tf", "RGB"),
    "vww_mobilenet_v1": ("unit", "RGB"),
    "resnet8_cifar10": ("raw", "RGB"),
    "ppocr_det": ("imagenet", "RGB"),
    "ppocr_cls": ("tf", "BGR"),
}


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 16, 128])
def test_the_zoo_on_its_calibration_pictures(zoo: Path, count: int) -> None:
    files = sorted((zoo / "imagenet" / "calibration").rglob("*.[jJ][pP]*"))
    chosen = [files[index * len(files) // count] for index in range(count)]
    spec = replace(SPEC, shape=("N", 3, 64, 64))
    pictures = [Image.open(path).convert("RGB") for path in chosen]
    samples = {
        (preset, order): [preprocess(picture, resolve(how, spec)) for picture in pictures]
        for preset in PRESETS
        for order in ORDERS
        for how in [replace(PRESETS[preset], channel_order=order)]
    }
    for model, right in ZOO.items():
        prepared = prepare(zoo / "models" / f"{model}.onnx")
        name = prepared.program.inputs[0].name
        for (preset, order), arrays in samples.items():
            how = replace(PRESETS[preset], channel_order=order)
            found = " ".join(input_warnings(prepared, table_of(arrays, how, name)))
            if (preset, order) == right:
                assert not found, model
            elif preset != right[0] and count == 128:
                assert f"--preset {right[0]} fits" in found, (model, preset, order)
            if (model, order, count) == ("mobilenet_v2", "BGR", 128):
                assert "red and blue of input 'input' look exchanged" in found
