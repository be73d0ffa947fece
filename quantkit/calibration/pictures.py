"""Pictures in any format Pillow reads, from a folder or an archive."""

import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from quantkit.calibration.preprocessing import Preprocessing, preprocess, resolve
from quantkit.calibration.spool import FileBytes, one_line, stamp_of
from quantkit.errors import ConfigError, UnreadableSampleError
from quantkit.graph.program import Array, TensorSpec

# What Pillow's decoders are seen to raise on damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
    Warning,  # of too many pixels; and any, where the user turns warnings into errors
)


# catch_warnings changes the whole process: one thread at a time.
_OPENING = Lock()


class PictureFiles(Protocol):
    """Encoded pictures that can be read in any order, from several threads."""

    @property
    def names(self) -> tuple[str, ...]:
        """A path per picture below the root of the data, with ``/``; sorted."""

    @property
    def stamp(self) -> str:
        """See :class:`quantkit.calibration.dataset.Source`."""

    def place(self, index: int) -> str:
        """Where a picture is, for messages."""

    def open(self, index: int) -> BinaryIO:
        """A picture's bytes.

        Raises:
            OSError: They cannot be read; or one of zlib's and zipfile's errors.
            CalibrationError: See :meth:`check`.
        """

    def check(self, index: int) -> None:
        """What tells a picture that is damaged from one that changed since it was listed.

        Raises:
            CalibrationError: Its file is gone, or shorter than when the data were opened.
        """


@dataclass(frozen=True, slots=True, eq=False)
class FolderFiles:
    """Picture files in a folder.

    Attributes:
        folder: The root.
        names: Paths below it.
        sizes: In bytes, when they were listed.
    """

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path, names: Sequence[str]) -> "FolderFiles":
        """The files as they are now.

        Raises:
            OSError: One cannot be looked at.
        """
        sizes = tuple((folder / name).stat().st_size for name in names)
        return cls(folder, tuple(names), sizes)

    @property
    def stamp(self) -> str:
        """See :class:`PictureFiles`."""
        return stamp_of(self.names, (self.folder / name for name in self.names))

    def place(self, index: int) -> str:
        """See :class:`PictureFiles`."""
        return str(self.folder / self.names[index])

    def open(self, index: int) -> BinaryIO:
        """See :class:`PictureFiles`."""
        return (self.folder / self.names[index]).open("rb")

    def check(self, index: int) -> None:
        """See :class:`PictureFiles`."""
        FileBytes(self.folder / self.names[index], self.sizes[index]).check()


@dataclass(frozen=True, slots=True, eq=False)
class PictureSource:
    """Pictures for a network with one input.

    Attributes:
        files: Where they are.
        input_name: The network's input.
        preprocessing: Resolved for that input.
    """

    files: PictureFiles
    input_name: str
    preprocessing: Preprocessing

    @property
    def names(self) -> tuple[str, ...]:
        """See :class:`PictureFiles`."""
        return self.files.names

    @property
    def stamp(self) -> str:
        """See :class:`PictureFiles`."""
        return self.files.stamp

    @property
    def splittable(self) -> bool:
        """Pictures are in files, which every process can open."""
        return True

    def read(self, index: int) -> dict[str, Array]:
        """Decode and preprocess one picture: float32, without batch axis.

        Raises:
            UnreadableSampleError: It cannot be decoded, or claims more pixels than
                ``PIL.Image.MAX_IMAGE_PIXELS``; the message has the reason.
            CalibrationError: Its file was removed or cut since the data were opened.
        """
        try:
            with self.files.open(index) as file, _opened(file) as picture:
                decoded = decode(picture, grey=len(self.preprocessing.mean) == 1)
        except _DAMAGE as error:
            self.files.check(index)
            # Pillow's own text shows the file object.
            is_none = isinstance(error, UnidentifiedImageError)
            reason = "it is no picture that Pillow can read" if is_none else one_line(error)
            raise UnreadableSampleError(
                f"picture {self.files.place(index)!r} cannot be read: {reason}"
            ) from error
        return {self.input_name: preprocess(decoded, self.preprocessing)}


def resolved_for(
    where: str, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
) -> Preprocessing:
    """The preprocessing that turns pictures into the network's one input.

    Raises:
        ConfigError: Several inputs, an input that takes no pictures, or no preprocessing given.
    """
    if len(inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in inputs)
        raise ConfigError(
            f"pictures feed a model with one input, this one has {names}; "
            "give an .npz with one array per input"
        )
    if preprocessing is None:
        raise ConfigError(
            f"{where!r} holds pictures: say how the model wants them "
            "(--preset imagenet, tf, unit or raw)"
        )
    return resolve(preprocessing, inputs[0])


def is_picture(name: str) -> bool:
    """Whether a path (with ``/``) has a suffix that Pillow reads, and its file is not hidden."""
    file = name.rpartition("/")[2]
    return not file.startswith(".") and f".{file.rpartition('.')[2]}".lower() in _suffixes()


def in_order(name: str) -> str:
    """The key by which paths with ``/`` are sorted: folder by folder, by their names."""
    return name.replace("/", "\0")


def decode(picture: Image.Image, *, grey: bool) -> Image.Image:
    """The opened picture upright (EXIF) and in mode "L" or "RGB".

    The first picture of an animation; transparency is dropped, as by every common loader; 16-bit
    grey keeps its upper 8 bits.

    Args:
        picture: As ``PIL.Image.open`` returns it.
        grey: Whether the result is "L".

    Raises:
        ValueError: Its pixels have no known range (floats, 32-bit integers).
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "F":
        raise ValueError("its pixels are floats, whose black and white nobody knows; give arrays")
    if upright.mode.startswith("I"):
        upright = _upper_byte(upright)
    if "transparency" in upright.info:
        # Pillow converts a palette with transparent entries faithfully only by way of RGBA.
        upright = upright.convert("RGBA")
    return upright.convert("L" if grey else "RGB")


def _upper_byte(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; also where Pillow keeps it in 32 bits (mode "I")."""
    pixels = np.asarray(picture)
    if pixels.min() < 0 or pixels.max() >= 2**16:
        raise ValueError("its pixels are 32-bit integers, beyond 0..65535; give arrays")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


def _opened(file: BinaryIO) -> Image.Image:
    """Opened without Pillow's warning of too many pixels: the sample is left out, which says it."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(file)


@cache
def _suffixes() -> frozenset[str]:
    Image.init()
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN)
