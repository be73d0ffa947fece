"""Folders of pictures, in any format Pillow reads."""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from quantkit.calibration.preprocessing import Preprocessing, preprocess, resolve
from quantkit.errors import ConfigError, EmptyDatasetError, UnreadableSampleError
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
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True, eq=False)
class PictureSource:
    """Picture files for a network with one input.

    Attributes:
        paths: The files.
        names: One per file: its path below the folder, with ``/``.
        input_name: The network's input.
        preprocessing: Resolved for that input.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    input_name: str
    preprocessing: Preprocessing

    def read(self, index: int) -> dict[str, Array]:
        """Decode and preprocess one picture: float32, without batch axis.

        Raises:
            UnreadableSampleError: The file cannot be decoded; the message has Pillow's reason.
        """
        path = self.paths[index]
        try:
            with Image.open(path) as picture:
                decoded = decode(picture, grey=len(self.preprocessing.mean) == 1)
        except _DAMAGE as error:
            reason = str(error) or type(error).__name__
            raise UnreadableSampleError(
                f"picture {str(path)!r} cannot be read: {reason}"
            ) from error
        return {self.input_name: preprocess(decoded, self.preprocessing)}


def open_pictures(
    path: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
) -> PictureSource:
    """All pictures below a folder, sorted by relative path; or one picture file.

    Files without a picture's suffix and names that begin with a dot are left out.

    Raises:
        ConfigError: Several inputs, an input that takes no pictures, or no preprocessing given.
        EmptyDatasetError: There is no picture.
    """
    if len(inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in inputs)
        raise ConfigError(
            f"pictures feed a model with one input, this one has {names}; "
            "give an .npz with one array per input"
        )
    if preprocessing is None:
        raise ConfigError(
            f"{str(path)!r} holds pictures: say how the model wants them "
            "(--preset imagenet, tf, unit or raw)"
        )
    resolved = resolve(preprocessing, inputs[0])
    if path.is_dir():
        found = sorted(file.relative_to(path) for file in _files_below(path) if is_picture(file))
        if not found:
            raise EmptyDatasetError(
                f"no pictures in {str(path)!r} (searched recursively for the suffixes Pillow "
                "reads: .jpg, .png ...); give a folder of pictures, an .npy or an .npz"
            )
        files, names_of = tuple(path / name for name in found), tuple(f.as_posix() for f in found)
    else:
        files, names_of = (path,), (path.name,)
    return PictureSource(files, names_of, inputs[0].name, resolved)


def is_picture(path: Path) -> bool:
    """Whether the file's suffix is one that Pillow reads."""
    return path.suffix.lower() in _picture_suffixes() and not path.name.startswith(".")


def decode(picture: Image.Image, *, grey: bool) -> Image.Image:
    """The opened picture upright (EXIF) and in mode "L" or "RGB".

    Transparency is dropped, as by every common loader; 16-bit grey keeps its upper 8 bits.

    Args:
        picture: As ``PIL.Image.open`` returns it.
        grey: Whether the result is "L".
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if "transparency" in upright.info:
        # Pillow converts a palette with transparent entries faithfully only by way of RGBA.
        upright = upright.convert("RGBA")
    return upright.convert("L" if grey else "RGB")


def _files_below(folder: Path) -> list[Path]:
    """Every file below ``folder``; linked folders are followed, each real folder once."""
    files: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        files.extend(Path(parent) / name for name in names)
    return files


@cache
def _picture_suffixes() -> frozenset[str]:
    Image.init()
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN)
