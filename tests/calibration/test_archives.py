import gzip
import io
import logging
import lzma
import os
import re
import struct
import subprocess
import tarfile
import tempfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration import archives, spool
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import PRESETS
from quantkit.errors import CalibrationError, ConfigError, EmptyDatasetError
from quantkit.graph.program import TensorSpec

INPUT = TensorSpec("input", np.dtype(np.float32), ("N", 3, 8, 8))
ORIENTATION = 0x0112
NAMES = ("b-c/1.png", "b/10.PNG", "b/2.jpg", "a/deep/x.png", "z.bmp")
KINDS = ("tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "zip")


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """How many bytes Python held at most; the list is filled at the end."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def opened(path: Path, *, count: int | None = None) -> Dataset:
    return open_dataset(path, [INPUT], preprocessing=PRESETS["raw"], num_samples=count)


def values(dataset: Dataset, index: int) -> np.ndarray:
    sample = dataset.read(index)
    assert sample is not None
    return sample["input"]


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (11, 13, 3), np.uint8)
    return Image.fromarray(pixels)


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for seed, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ORIENTATION] = 1 + seed
        picture(seed).save(path, exif=exif) if seed else picture(seed).save(path)
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes(png())
    return root


def packed(folder: Path, kind: str, top: str = ".") -> Path:
    path = folder.parent / f"{folder.name}.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in folder.rglob("*"):
                archive.write(file, Path(top) / file.relative_to(folder))
    else:
        compression = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
        how = compression.get(kind.rpartition(".")[2], "w:")
        with tarfile.open(path, how) as archive:  # type: ignore[call-overload]
            archive.add(folder, top)
    return path


def tar_of(path: Path, *members: tuple[str, bytes], **fields: object) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


def lying_zip(path: Path, size: int, *, zeros: int = 0) -> Path:
    """A zip whose one member claims to unpack to ``size`` bytes."""
    zip_of(path, ("big.png", bytes(zeros) if zeros else png()))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, size)
    path.write_bytes(bytes(data))
    return path


@pytest.fixture
def nothing_written(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Nothing appears above the test's folder or in the temporary folder."""
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(tmp_path.parent.iterdir())
    yield
    assert set(tmp_path.parent.iterdir()) == before
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("top", [".", "pictures"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_reads_as_the_folder_it_was_made_from(folder: Path, kind: str, top: str) -> None:
    expected = opened(folder)
    found_at = packed(folder, kind, top)
    found = opened(found_at)
    assert expected.sample_names == ("a/deep/x.png", "b/10.PNG", "b/2.jpg", "b-c/1.png", "z.bmp")
    assert found.sample_names == expected.sample_names
    assert found.preprocessing is not None
    before = sorted(folder.parent.rglob("*"))
    for index in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(values(found, index), values(expected, index))
    assert sorted(folder.parent.rglob("*")) == before
    assert opened(found_at, count=2).sample_names == opened(folder, count=2).sample_names


def test_another_top_folder_is_part_of_the_names(folder: Path) -> None:
    assert opened(packed(folder, "tar", "other")).sample_names[0] == "other/a/deep/x.png"


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_found_by_class_folder(tmp_path: Path, kind: str) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "1.png").write_bytes(png())
    np.testing.assert_array_equal(read_labels(opened(packed(tmp_path / "d", kind)), None), [0, 1])


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_several_threads_read_at_once(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "d"
    root.mkdir()
    for seed in range(60):
        (root / f"{seed:02}.png").write_bytes(png(seed))
    expected = opened(root)
    found = opened(packed(root, kind))
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 5)).tolist()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda index: values(found, index), order))
    for index, array in zip(order, got, strict=True):
        np.testing.assert_array_equal(array, values(expected, index))


def test_the_suffix_of_a_tar_does_not_matter_to_its_compression(tmp_path: Path) -> None:
    plain = tar_of(tmp_path / "a.tar", ("a.png", png())).read_bytes()
    streams = lzma.compress(plain[:5000]) + bytes(8) + lzma.compress(plain[5000:])
    for data in (gzip.compress(plain), streams):
        (tmp_path / "b.tar").write_bytes(data)
        assert opened(tmp_path / "b.tar").read(0) is not None


def test_the_later_of_two_members_of_one_name(tmp_path: Path) -> None:
    two = (("a.png", png(1)), ("./a.png", png(2)))
    (tmp_path / "x.png").write_bytes(png(2))
    expected = values(opened(tmp_path / "x.png"), 0)
    for path in (tar_of(tmp_path / "a.tar", *two), zip_of(tmp_path / "a.zip", *two)):
        found = opened(path)
        assert found.sample_names == ("a.png",)
        np.testing.assert_array_equal(values(found, 0), expected)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/evil.png",
        "..\\evil.png",
        "C:\\evil.png",
        "../notes.txt",
    ],
)
def test_paths_that_lead_out_are_refused(
    tmp_path: Path, make: Callable[..., Path], name: str
) -> None:
    path = make(tmp_path / f"a.{make.__name__[:3]}", ("good.png", png()), (name, png()))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CalibrationError, match=r"^archive .* is refused: its member ") as caught:
        opened(path)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("device.png", tarfile.CHRTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        archive.add(secret, "good.png")
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(link, str(secret))
        zipped.write(secret, "good.png")
    assert opened(tmp_path / "a.tar").sample_names == ("good.png",)
    assert opened(tmp_path / "a.zip").sample_names == ("good.png",)


def test_only_links_are_no_pictures(tmp_path: Path) -> None:
    info = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    path = tar_of(tmp_path / "a.tar", ("link.png", b""), **info)
    with pytest.raises(EmptyDatasetError, match=r"no pictures in the archive .*a\.tar"):
        opened(path)


@pytest.mark.usefixtures("nothing_written")
def test_a_member_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"'big.png' has 536,870,913 bytes .* 536,870,912"):
        opened(lying_zip(tmp_path / "a.zip", 2**29 + 1))
    with pytest.raises(CalibrationError, match=r"unpacks to 4,294,967,294 bytes .* zip bomb"):
        opened(lying_zip(tmp_path / "a.zip", 2**32 - 2))


@pytest.mark.usefixtures("nothing_written")
def test_a_member_that_claims_too_little_is_skipped_unread(tmp_path: Path) -> None:
    path = lying_zip(tmp_path / "a.zip", 1000, zeros=200_000_000)
    found = opened(path)
    with peak_memory() as peak:
        assert found.read(0) is None
    assert "holds more than the 1,000 bytes it declares" in found.skipped["big.png"]
    assert peak[0] < 5_000_000


def test_a_member_that_claims_a_little_too_much_is_skipped(tmp_path: Path) -> None:
    found = opened(lying_zip(tmp_path / "a.zip", 100_000))
    assert found.read(0) is None
    assert "holds fewer than the 100,000 bytes it declares" in found.skipped["big.png"]


@pytest.mark.usefixtures("nothing_written")
def test_many_members_that_share_their_bytes(tmp_path: Path) -> None:
    """The overlapping kind of bomb: every directory entry names the same compressed bytes."""
    path = zip_of(tmp_path / "a.zip", ("0.png", bytes(100_000_000)))
    data = path.read_bytes()
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = bytearray(data[begin:end])
    entries = b""
    for index in range(12):
        entry[46 : 46 + 5] = b"%x.png" % index
        entries += entry
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 12, 12, len(entries))
    path.write_bytes(data[:begin] + entries + tail)
    with pytest.raises(CalibrationError, match=r"zip bomb|Overlapped"):
        opened(path)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_a_compressed_tar_that_grows_out_of_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(spool, "ALWAYS_ALLOWED_BYTES", 2**24)
    tar_of(tmp_path / "a.tar", ("notes.txt", bytes(2**26)))
    path = tmp_path / "a.tar.gz"
    path.write_bytes(compress((tmp_path / "a.tar").read_bytes()))
    with (
        peak_memory() as peak,
        pytest.raises(CalibrationError, match=r"archive .*a\.tar\.gz' unpacks to .* zip bomb"),
    ):
        opened(path)
    assert peak[0] < 2**24  # the dictionary of `xz -6` alone has 8 MiB


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_written")
def test_a_real_gz_bomb(tmp_path: Path) -> None:
    info = tarfile.TarInfo("big.png")
    info.size = 2**31
    zeros = gzip.compress(bytes(2**26))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf()) + zeros * 32)
    with pytest.raises(CalibrationError, match="zip bomb"):
        opened(tmp_path / "a.tar.gz")


def test_a_bomb_within_a_bomb_is_not_opened(tmp_path: Path) -> None:
    inner = gzip.compress(gzip.compress(bytes(2**24)))
    path = tar_of(tmp_path / "a.tar", ("inner.tar.gz", inner), ("inner.png", inner))
    found = opened(path)
    assert found.sample_names == ("inner.png",)
    assert found.read(0) is None
    assert "it is no picture that Pillow can read" in found.skipped["inner.png"]
    (tmp_path / "b.tar.gz").write_bytes(inner)
    with pytest.raises(CalibrationError, match=r"archive .*b\.tar\.gz' cannot be read: "):
        opened(tmp_path / "b.tar.gz")


def test_an_xz_that_asks_for_much_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 2**29}]
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(bytes(100), filters=filters))
    with pytest.raises(CalibrationError, match="Memory usage limit exceeded"):
        opened(tmp_path / "a.tar.xz")


def test_encrypted_members_are_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("secret.png", png()))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CalibrationError, match=r"member 'secret.png' of .*a\.zip' is encrypted"):
        opened(path)


def test_other_compression_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", png())
    with pytest.raises(CalibrationError, match=r"'a\.png' .* compressed with zip's method 14"):
        opened(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_one_line_or_one_skipped_picture(folder: Path, kind: str) -> None:
    """Cut anywhere and with any byte changed: refused on one line, or pictures are skipped."""
    path = packed(folder, kind)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:cut] for cut in rng.integers(0, len(whole), 40)]
    for position in rng.integers(0, len(whole), 60):
        byte = bytes([whole[position] ^ int(rng.integers(1, 256))])
        damaged.append(whole[:position] + byte + whole[position + 1 :])
    refused: list[str] = []
    logging.disable(logging.WARNING)
    try:
        for data in damaged:
            path.write_bytes(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Pillow's, of a damaged EXIF block
                try:
                    found = opened(path)
                    for index in range(len(found)):
                        found.read(index)
                except CalibrationError as error:
                    refused.append(str(error))
    finally:
        logging.disable(logging.NOTSET)
    assert len(refused) > 10
    assert not [message for message in refused if "\n" in message]


def test_truncated_archives_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(50_000)
    members = [(f"{index}.png", noise) for index in range(3)]
    paths = [tar_of(tmp_path / "a.tar", *members), zip_of(tmp_path / "a.zip", *members)]
    (tmp_path / "a.tgz").write_bytes(gzip.compress(paths[0].read_bytes()))
    for path in (*paths, tmp_path / "a.tgz"):
        whole = path.read_bytes()
        for cut in (0, 10, 600, len(whole) // 2, 110_000):
            path.write_bytes(whole[:cut])
            pattern = rf"^archive .*{re.escape(path.name)}' cannot be read: [^\n]*$"
            with pytest.raises(CalibrationError, match=pattern):
                opened(path)


def test_damage_in_the_middle_of_a_tar_is_not_taken_for_its_end(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", *((f"{index}.png", png()) for index in range(4)))
    data = bytearray(path.read_bytes())
    data[data.index(b"2.png") + 150] ^= 0xFF  # in the header's checksum
    path.write_bytes(bytes(data))
    with pytest.raises(CalibrationError, match="no member begins at byte"):
        opened(path)


def test_a_tar_whose_sizes_lead_back_to_its_beginning(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", ("a.png", b""), ("b.png", b""))
    info = tarfile.TarInfo("b.png")
    info.size = -512
    data = bytearray(path.read_bytes())
    data[512:1024] = info.tobuf(format=tarfile.GNU_FORMAT)
    path.write_bytes(bytes(data))
    with pytest.raises(CalibrationError, match=r"a\.tar' cannot be read: "):
        opened(path)


def test_a_damaged_picture_is_skipped(tmp_path: Path) -> None:
    members = (("a.png", png()), ("b.png", png()[:60]))
    for path in (tar_of(tmp_path / "a.tar", *members), zip_of(tmp_path / "a.zip", *members)):
        found = opened(path)
        assert [found.read(index) is None for index in (0, 1)] == [False, True]
        assert f"picture '{path}: b.png' cannot be read: " in found.skipped["b.png"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_changes_after_it_was_opened_is_an_error(tmp_path: Path, kind: str) -> None:
    members = [(f"{index}.png", png(index)) for index in range(4)]
    path = (tar_of if kind == "tar" else zip_of)(tmp_path / f"a.{kind}", *members)
    found = opened(path)
    os.truncate(path, 700 + len(png()))
    assert found.read(0) is not None
    with pytest.raises(CalibrationError, match=rf"a\.{kind}' changed while it was read: it has"):
        found.read(3)
    path.unlink()
    with pytest.raises(
        CalibrationError, match=rf"a\.{kind}' changed while it was read: it is gone"
    ):
        found.read(0)
    assert found.skipped == {}


def test_a_changed_pixel_is_found_by_the_checksum(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.bmp")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(tmp_path / "a.bmp", "a.bmp")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") - 1] ^= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    found = opened(tmp_path / "a.zip")
    assert found.read(0) is None
    assert found.skipped["a.bmp"].endswith("its checksum is wrong")


def test_archives_need_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.tar' holds pictures: say how"):
        open_dataset(tar_of(tmp_path / "a.tar"), [INPUT], preprocessing=None)


def test_what_the_systems_own_tar_writes(folder: Path) -> None:
    path = folder.parent / "system.tar.gz"
    try:
        subprocess.run(["tar", "-czf", path, "-C", folder, "."], check=True)
    except FileNotFoundError:
        pytest.skip("there is no tar command")
    assert opened(path).sample_names == opened(folder).sample_names


def test_the_index_of_many_members_is_small(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", *((f"{index:05}.png", b"x") for index in range(5000)))
    with peak_memory() as peak:
        files = archives.open_archive(path)
    assert len(files.names) == 5000
    assert peak[0] < 5000 * 300  # tarfile by itself keeps 900 bytes per member
