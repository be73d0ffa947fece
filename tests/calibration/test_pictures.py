import io
import logging
import os
import shutil
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.pictures import PictureSource, decode
from quantkit.calibration.preprocessing import PRESETS, preprocess, resolve
from quantkit.errors import CalibrationError, ConfigError, EmptyDatasetError, UnreadableSampleError
from quantkit.graph.program import TensorSpec

INPUT = TensorSpec("input", np.dtype(np.float32), ("N", 3, 16, 16))
ORIENTATION = 0x0112


def gradient(mode: str = "RGB") -> Image.Image:
    ramp = np.linspace(0, 255, 24 * 20 * 3).reshape(20, 24, 3).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


def opened(folder: Path, *, strict: bool = False, count: int | None = None) -> Dataset:
    return open_dataset(
        folder, [INPUT], preprocessing=PRESETS["unit"], strict=strict, num_samples=count
    )


def first(folder: Path) -> np.ndarray:
    sample = opened(folder).read(0)
    assert sample is not None
    return sample["input"]


def test_found_recursively_in_order_of_relative_paths(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.PNG", "a/deep/x.jpg", "z.bmp", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        gradient().save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    found = opened(tmp_path)
    assert found.sample_names == ("a/deep/x.jpg", "b/10.PNG", "b/2.png", "z.bmp")
    assert found.input_names == ("input",)
    assert found.preprocessing is not None
    assert (found.preprocessing.layout, found.preprocessing.size) == ("NCHW", (16, 16))


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "data"
    outside.mkdir()
    folder.mkdir()
    gradient().save(outside / "a.png")
    gradient().save(folder / "b.png")
    (folder / "linked").symlink_to(outside)
    (outside / "loop").symlink_to(folder)
    assert opened(folder).sample_names == ("b.png", "linked/a.png")


def test_evenly_spaced_as_the_other_tools_take_them(tmp_path: Path) -> None:
    for index in range(11):
        gradient().save(tmp_path / f"{index:02}.png")
    names = sorted(path.name for path in tmp_path.iterdir())
    expected = tuple(names[i * 11 // 4] for i in range(4))
    assert (
        opened(tmp_path, count=4).sample_names
        == expected
        == ("00.png", "02.png", "05.png", "08.png")
    )


def test_one_picture_file(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").sample_names == ("a.png",)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "gif", "tiff", "webp", "ppm"])
def test_formats(tmp_path: Path, kind: str) -> None:
    gradient().save(tmp_path / f"a.{kind}")
    with Image.open(tmp_path / f"a.{kind}") as picture:
        how = opened(tmp_path).preprocessing
        assert how is not None
        np.testing.assert_array_equal(first(tmp_path), preprocess(picture.convert("RGB"), how))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    picture = gradient(mode)
    picture.save(tmp_path / "a.tiff")
    how = opened(tmp_path).preprocessing
    assert how is not None
    np.testing.assert_array_equal(first(tmp_path), preprocess(picture.convert("RGB"), how))


def test_palette_with_transparent_entries(tmp_path: Path) -> None:
    gradient("P").save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    how = opened(tmp_path).preprocessing
    assert how is not None
    np.testing.assert_array_equal(first(tmp_path), preprocess(gradient("P").convert("RGB"), how))


def test_16_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    wide = (np.arange(20 * 24).reshape(20, 24) * 130).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        got = np.asarray(decode(picture, grey=True))
    np.testing.assert_array_equal(got, wide >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # What a camera would have stored for this upright picture; lossless, so equality is exact.
    turned = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = gradient()
    for step in turned.get(orientation, []):
        stored = stored.transpose(step)
    stored.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        got = decode(picture, grey=False)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(gradient()))


def test_grey_network_gets_luminance(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    grey = TensorSpec("input", np.dtype(np.float32), ("N", 1, 16, 16))
    found = open_dataset(tmp_path, [grey], preprocessing=PRESETS["unit"])
    sample = found.read(0)
    assert sample is not None
    assert found.preprocessing is not None
    expected = preprocess(gradient().convert("L"), found.preprocessing)
    np.testing.assert_array_equal(sample["input"], expected)


def test_unreadable_picture_is_skipped_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gradient().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "c.jpg").write_text("not a picture")
    found = opened(tmp_path)
    with caplog.at_level(logging.WARNING):
        read = [found.read(index) is not None for index in (0, 1, 2, 1)]
    assert read == [True, False, False, False]
    assert sorted(found.skipped) == ["b.png", "c.jpg"]
    assert "b.png' cannot be read: " in found.skipped["b.png"]
    assert found.skipped["c.jpg"].endswith("cannot be read: it is no picture that Pillow can read")
    assert len(caplog.records) == 2
    assert caplog.messages[0].startswith("skipped: picture")


def test_a_picture_that_changes_after_it_was_listed_is_an_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        gradient().save(tmp_path / name)
    (tmp_path / "c.png").write_text("damaged all the time")
    found = opened(tmp_path)
    os.truncate(tmp_path / "b.png", 60)
    (tmp_path / "a.png").unlink()
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "d").write_text("a file now")
    with pytest.raises(CalibrationError, match=r"a\.png' changed while it was read: it is gone"):
        found.read(0)
    with pytest.raises(CalibrationError, match=r"b\.png' changed .*: it has 60 bytes, \d+ when"):
        found.read(1)
    assert found.read(2) is None
    with pytest.raises(CalibrationError, match=r"d/d\.png' changed while it was read: it is gone"):
        found.read(3)
    assert list(found.skipped) == ["c.png"]


def test_unreadable_picture_is_refused_when_strict(tmp_path: Path) -> None:
    (tmp_path / "c.jpg").write_text("not a picture")
    with pytest.raises(UnreadableSampleError, match=r"picture '.*c\.jpg' cannot be read: "):
        opened(tmp_path, strict=True).read(0)


def test_decompression_bomb_is_an_unreadable_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert opened(tmp_path).read(0) is None


class SlowBytes(io.BytesIO):
    """Read so slowly that threads meet."""

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(0.001)
        return super().read(size)


class SlowFiles:
    names = tuple(f"{index}.png" for index in range(40))
    stamp = "of no file"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def place(self, index: int) -> str:
        return self.names[index]

    def open(self, index: int) -> io.BytesIO:
        return SlowBytes(self.data)

    def check(self, index: int) -> None:
        pass


@pytest.mark.parametrize("factor", [0.6, 0.4])
def test_too_many_pixels_are_a_reason_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    stream = io.BytesIO()
    gradient().save(stream, "PNG")
    # Pillow warns above this number and refuses above twice as many.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(24 * 20 * factor))
    source = PictureSource(SlowFiles(stream.getvalue()), "input", resolve(PRESETS["unit"], INPUT))
    dataset = Dataset(source, (INPUT,), tuple(range(40)), source.names)
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        assert set(pool.map(dataset.read, range(40))) == {None}
        assert list(warnings.filters) == before
    assert caught == []
    assert len(dataset.skipped) == 40
    assert "decompression bomb" in dataset.skipped["0.png"]


def test_a_huge_claim_in_a_small_file(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 2**30, 2**30) + whole[24:29]
    claim = whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    (tmp_path / "a.png").write_bytes(claim)
    found = opened(tmp_path)
    assert found.read(0) is None
    assert "decompression bomb" in found.skipped["a.png"]


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
@pytest.mark.parametrize("grey", [True, False])
def test_16_bit_grey_of_every_format(tmp_path: Path, kind: str, grey: bool) -> None:
    wide = (np.arange(20 * 24).reshape(20, 24) * 130).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / f"a.{kind}")
    with Image.open(tmp_path / f"a.{kind}") as picture:
        got = np.asarray(decode(picture, grey=grey))
    np.testing.assert_array_equal(got if grey else got[..., 1], wide >> 8)


def test_pixels_of_no_known_range_are_a_reason(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 70_000, np.int32)).save(tmp_path / "a.tiff")
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(tmp_path / "b.tiff")
    found = opened(tmp_path)
    assert [found.read(index) for index in (0, 1)] == [None, None]
    assert "32-bit integers, beyond 0..65535; give arrays" in found.skipped["a.tiff"]
    assert "floats, whose black and white nobody knows" in found.skipped["b.tiff"]


def test_jpeg_of_adobe_with_inverted_inks(tmp_path: Path) -> None:
    gradient("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert "adobe" in picture.info
        got = np.asarray(decode(picture, grey=False)).astype(int)
    assert np.abs(got - np.asarray(gradient())).max() <= 1  # JPEG's own rounding


def test_first_picture_of_an_animation(tmp_path: Path) -> None:
    first_frame = gradient().convert("P", palette=Image.Palette.ADAPTIVE)
    others = [Image.new("RGB", (24, 20), color) for color in ("red", "blue")]
    first_frame.save(tmp_path / "a.gif", save_all=True, append_images=others)
    with Image.open(tmp_path / "a.gif") as picture:
        assert getattr(picture, "n_frames", 1) == 3
        got = np.asarray(decode(picture, grey=False))
    np.testing.assert_array_equal(got, np.asarray(first_frame.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_alpha_is_dropped(tmp_path: Path, mode: str) -> None:
    picture = gradient("P").convert(mode) if mode == "PA" else gradient(mode)
    picture.putalpha(Image.fromarray(np.asarray(gradient())[..., 1]))
    picture.save(tmp_path / "a.png") if mode != "PA" else picture.save(tmp_path / "a.tiff")
    (path,) = tmp_path.iterdir()
    with Image.open(path) as stored:
        got = np.asarray(decode(stored, grey=False))
    expected = gradient("P") if mode == "PA" else gradient("L" if mode == "LA" else "RGB")
    np.testing.assert_array_equal(got, np.asarray(expected.convert("RGB")))


def test_transparent_color_keeps_its_color(tmp_path: Path) -> None:
    for name, picture, transparency in (
        ("1.png", gradient("1"), 1),
        ("L.png", gradient("L"), 3),
        ("RGB.png", gradient(), (1, 2, 3)),
    ):
        picture.save(tmp_path / name, transparency=transparency)
        with Image.open(tmp_path / name) as stored:
            got = np.asarray(decode(stored, grey=False))
        np.testing.assert_array_equal(got, np.asarray(picture.convert("RGB")), err_msg=name)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(EmptyDatasetError, match=r"no pictures in '.*' .*give a folder of pictures"):
        opened(tmp_path)


def test_needs_preprocessing_and_one_input(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"holds pictures: say how .*preset imagenet"):
        open_dataset(tmp_path, [INPUT], preprocessing=None)
    other = TensorSpec("other", INPUT.dtype, INPUT.shape)
    with pytest.raises(ConfigError, match=r"this one has 'input', 'other'; give an \.npz"):
        open_dataset(tmp_path, [INPUT, other], preprocessing=PRESETS["unit"])
