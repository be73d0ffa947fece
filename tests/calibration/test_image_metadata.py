"""What the metadata of a model say about its pictures."""

from dataclasses import replace
from typing import Any

import pytest

from quantkit.calibration.image_metadata import follow_metadata, range_hint
from quantkit.calibration.preprocessing import PRESETS, ChannelOrder

RAW = PRESETS["raw"]


@pytest.mark.parametrize(
    ("metadata", "order"),
    [
        ({"Image.BitmapPixelFormat": "Bgr8"}, "BGR"),
        ({"image.bitmappixelformat": " BGRA8 "}, "BGR"),
        ({"Image.BitmapPixelFormat": "Rgb8"}, "RGB"),
        ({"Image.BitmapPixelFormat": "Gray8"}, None),
        ({"author": "Bgr8"}, None),
        ({}, None),
    ],
)
def test_the_channel_order_is_followed(
    metadata: dict[str, str], order: ChannelOrder | None
) -> None:
    assert follow_metadata(RAW, metadata) == replace(RAW, channel_order=order)


def test_the_users_channel_order_wins() -> None:
    asked = replace(RAW, channel_order="RGB")
    assert follow_metadata(asked, {"Image.BitmapPixelFormat": "Bgr8"}) is asked


@pytest.mark.parametrize(
    ("value", "fits"),
    [("NominalRange_0_255", "raw"), ("normalized_0_1", "unit"), ("Normalized_1_1", "tf")],
)
def test_the_range_is_hinted_at(value: str, fits: str) -> None:
    metadata = {"Image.NominalPixelRange": value}
    proposal = range_hint(None, metadata)
    assert proposal is not None
    assert proposal.endswith(f": --preset {fits}")
    for name, preset in PRESETS.items():
        hint = range_hint(preset, metadata)
        assert (hint is None) == (name == fits)
        assert hint is None or f"--preset {fits} makes the former" in hint


def test_neighbouring_halves_are_the_same_range() -> None:
    metadata = {"Image.NominalPixelRange": "Normalized_1_1"}
    assert range_hint(replace(PRESETS["tf"], mean=(127.0,), std=(128.0,)), metadata) is None


@pytest.mark.parametrize("metadata", [{}, {"Image.NominalPixelRange": "NominalRange_16_235"}])
def test_without_a_range_of_a_preset_there_is_no_hint(metadata: dict[str, Any]) -> None:
    assert range_hint(None, metadata) is None
