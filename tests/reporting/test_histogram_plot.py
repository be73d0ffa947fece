from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image, ImageColor

from quantkit.errors import CalibrationError, ConfigError
from quantkit.reporting.histogram_plot import (
    BACKGROUND,
    BARS,
    COLOURS,
    MOST_PANELS,
    SUFFIXES,
    draw_histograms,
    plot_histograms,
)
from quantkit.reporting.table_rows import TensorRow
from tests.reporting.tables import normal, row_of, statistics_of

WIDE = row_of(normal(), "wide", percentile=99.0)


def pixels_of(image: Image.Image, colour: str) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    wanted: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = np.all(
        np.asarray(image) == ImageColor.getrgb(colour), axis=-1
    )
    return wanted


def test_lines_stand_where_ranges_end() -> None:
    image = draw_histograms([WIDE], "a table")
    assert pixels_of(image, BARS).sum() > 1000
    axis = np.flatnonzero(pixels_of(image, BARS).any(axis=0))
    left = axis[0] - 1  # where the line of minmax covers the first bar
    right = left + 360
    low, high = WIDE.statistics.minimum, WIDE.statistics.maximum
    methods = list(WIDE.ranges)
    ends = {
        method: [
            left + round((end - low) / (high - low) * (right - left)) for end in (r.low, r.high)
        ]
        for method, r in WIDE.ranges.items()
    }
    plot = pixels_of(image, BARS).any(axis=1)
    top, bottom = np.flatnonzero(plot)[[0, -1]]
    for method, colour in zip(methods, COLOURS, strict=False):
        inside = pixels_of(image, colour)[top:bottom]
        assert sorted({*np.flatnonzero(inside.any(axis=0))}) == sorted({*ends[method]}), method


def test_lines_that_fall_together_take_turns() -> None:
    image = draw_histograms([row_of(statistics_of(0.0, 1.0, 1.0, 3.0), percentile=100.0)], "t")
    first = np.flatnonzero(pixels_of(image, BARS).any(axis=0))[0]
    rows = np.flatnonzero(pixels_of(image, BARS).any(axis=1))
    found = np.asarray(image)[rows[0] : rows[-1], first - 1]
    present = {colour for colour in COLOURS if (found == ImageColor.getrgb(colour)).all(-1).any()}
    assert len(present) >= 2


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (13, 3)])
def test_panels_are_in_columns(count: int, columns: int) -> None:
    image = draw_histograms([WIDE] * count, "t")
    one = draw_histograms([WIDE], "t")
    assert image.width > columns * (one.width - 60)
    assert image.width < (columns + 1) * (one.width - 60)
    lines = -(-count // columns)
    assert image.height - one.height == pytest.approx((lines - 1) * (one.height - 120), rel=0.1)


@pytest.mark.parametrize("title", ["t", "x" * 300, "bücher 中文.calib.npz"])
@pytest.mark.parametrize("name", ["n", "/features[0]/" * 20, "ünïcode"])
def test_texts_stay_within_the_picture(title: str, name: str) -> None:
    extreme = row_of(statistics_of(-3.4e38, 1e-45, 3.4e38), name)
    tiny = row_of(statistics_of(-1e-44, 1e-45), name)
    image = draw_histograms([extreme, tiny, row_of(statistics_of(0.0), name)], title)
    pixels = np.asarray(image)
    blank = np.array(ImageColor.getrgb(BACKGROUND))
    for edge in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
        assert (edge == blank).all()
    # Nothing of one panel reaches into the next.
    assert (pixels[110:, image.width // 2 - 10 : image.width // 2 + 10] == blank).all()


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG"])
def test_every_format_opens_again_and_is_deterministic(suffix: str, tmp_path: Path) -> None:
    path, again = tmp_path / f"plot{suffix}", tmp_path / f"again{suffix}"
    plot_histograms([WIDE], path, title="t")
    plot_histograms([row_of(normal(), "wide", percentile=99.0)], again, title="t")
    assert path.read_bytes() == again.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([path, again])
    with Image.open(path) as image:
        assert image.size == draw_histograms([WIDE], "t").size
        extrema = image.convert("L").getextrema()
    assert extrema[0] < 50  # type: ignore[operator]
    assert extrema[1] == 255


@pytest.mark.parametrize("name", ["plot.xyz", "plot", "plot.svg", "plot.pdf"])
def test_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a picture's name ends in \.bmp, \.gif, .*\.png"):
        plot_histograms([WIDE], tmp_path / name, title="t")
    assert list(tmp_path.iterdir()) == []


def test_too_many_panels(tmp_path: Path) -> None:
    rows: list[TensorRow] = [WIDE] * (MOST_PANELS + 1)
    with pytest.raises(ConfigError, match="room for 48 tensors, not for 49; choose with --tensor"):
        plot_histograms(rows, tmp_path / "p.png", title="t")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    path = tmp_path / "p.png"
    path.write_bytes(b"precious")
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CalibrationError, match=r"cannot write '.*p\.png': .*No space left"):
        plot_histograms([WIDE], path, title="t")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"precious"]
