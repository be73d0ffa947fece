"""Pictures in tar and zip archives, read in place: nothing is ever extracted to a named file.

A plain tar and a zip are read where they lie; a compressed tar is unpacked once into an anonymous
temporary file. An archive that could not be unpacked safely is refused as a whole.
"""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from quantkit.calibration.pictures import PictureFiles, in_order, is_picture
from quantkit.calibration.spool import (
    CHUNK_BYTES,
    ByteStore,
    FileBytes,
    chunks_of,
    one_line,
    spooled,
    stamp_of,
)
from quantkit.calibration.zip_members import (
    ZIP_DAMAGE,
    ZipMember,
    check_members,
    file_members,
    member_of,
    read_member,
)
from quantkit.errors import CalibrationError

LARGEST_PICTURE_BYTES = 2**29
_SUFFIX = re.compile(r".\.(zip|tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)
# What unpacking what `xz -9` packed takes, four times.
_XZ_MEMORY_BYTES = 2**28
_DAMAGE = (
    *ZIP_DAMAGE,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    # What headers with absurd sizes, or thousands of extended headers in a row, end in.
    MemoryError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True, eq=False)
class TarFiles:
    """Pictures in a tar archive.

    Attributes:
        path: The archive.
        names: The pictures' paths below its root.
        store: The tar's bytes: the file, or what it was unpacked to.
        places: Offset and size of each picture, in bytes.
    """

    path: Path
    names: tuple[str, ...]
    store: ByteStore
    places: tuple[tuple[int, int], ...]

    @property
    def stamp(self) -> str:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        return stamp_of(self.names, [self.path])

    def place(self, index: int) -> str:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        return f"{self.path}: {self.names[index]}"

    def open(self, index: int) -> BinaryIO:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        return io.BytesIO(self.store.read_at(*self.places[index]))

    def check(self, index: int) -> None:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        del index
        if isinstance(self.store, FileBytes):
            self.store.check()


@dataclass(frozen=True, slots=True, eq=False)
class ZipFiles:
    """Pictures in a zip archive.

    Attributes:
        path: The archive.
        names: The pictures' paths below its root.
        store: The archive's bytes.
        members: Where each is.
    """

    path: Path
    names: tuple[str, ...]
    store: FileBytes
    members: tuple[ZipMember, ...]

    @property
    def stamp(self) -> str:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        return stamp_of(self.names, [self.path])

    def place(self, index: int) -> str:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        return f"{self.path}: {self.names[index]}"

    def open(self, index: int) -> BinaryIO:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        return io.BytesIO(read_member(self.store, self.members[index]))

    def check(self, index: int) -> None:
        """See :class:`quantkit.calibration.pictures.PictureFiles`."""
        del index
        self.store.check()


def is_archive(path: Path) -> bool:
    """Whether the file's suffix is a tar's or a zip's."""
    return _SUFFIX.search(path.name) is not None


def open_archive(path: Path) -> PictureFiles:
    """The pictures of an archive, named and sorted as in the folder it was made from.

    Links, devices and files without a picture's suffix are left out. Where the only folder at the
    top has the archive's own name, the names are those below it. Of two members of one name the
    later one counts, as it would be the one left by unpacking.

    Raises:
        CalibrationError: The archive is damaged; a member has an absolute path or one with "..";
            a picture is encrypted or larger than 512 MiB; it unpacks out of proportion.
    """
    try:
        if zipfile.is_zipfile(path):
            return _open_zip(path)
        return _open_tar(path)
    except _DAMAGE as error:
        raise CalibrationError(
            f"archive {str(path)!r} cannot be read: {one_line(error)}; is it damaged or incomplete?"
        ) from error


def _open_zip(path: Path) -> ZipFiles:
    store = FileBytes.of(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _safe_name(info.filename, path)
        found = {
            name: info
            for info in file_members(archive)
            if is_picture(name := _safe_name(info.filename, path))
        }
    check_members(path, list(found.values()))
    for info in found.values():
        _check_size(info.filename, info.file_size, path)
    names = sorted(found, key=in_order)
    members = tuple(member_of(found[name]) for name in names)
    return ZipFiles(path, _below_root(names, path), store, members)


def _open_tar(path: Path) -> TarFiles:
    with path.open("rb") as file:
        chunks = _unpacked(file)
        if chunks is None:
            return _index_tar(path, file, FileBytes.of(path))
        spool = spooled(chunks, f"archive {str(path)!r}", path.stat().st_size)
    return _index_tar(path, spool.file, spool)


def _unpacked(file: BinaryIO) -> Iterator[bytes] | None:
    """The unpacked bytes in pieces, whatever the file's suffix; None: it is not compressed."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return chunks_of(gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return chunks_of(bz2.BZ2File(file))
    if start == b"\xfd7zXZ\x00":
        return _unpacked_xz(file)
    return None


def _unpacked_xz(file: BinaryIO) -> Iterator[bytes]:
    """As ``lzma.open``, which lets a file ask for 4 GiB of memory."""
    data = file.read(CHUNK_BYTES)
    while data:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        while not unpacker.eof:
            if unpacker.needs_input and not data:
                raise EOFError("it ends early")
            yield unpacker.decompress(data, CHUNK_BYTES)
            data = file.read(CHUNK_BYTES) if unpacker.needs_input and not unpacker.eof else b""
        # Streams may follow each other, with zeros between them.
        data = unpacker.unused_data.lstrip(b"\0") or file.read(CHUNK_BYTES).lstrip(b"\0")


def _index_tar(path: Path, file: IO[bytes], store: ByteStore) -> TarFiles:
    found: dict[str, tuple[int, int]] = {}
    for member in _tar_members(file):
        name = _safe_name(member.name, path)
        if member.isreg() and not member.issparse() and is_picture(name):
            _check_size(member.name, member.size, path)
            found[name] = (member.offset_data, member.size)
    names = sorted(found, key=in_order)
    places = tuple(found[name] for name in names)
    return TarFiles(path, _below_root(names, path), store, places)


def _tar_members(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        end = 0
        while (member := archive.next()) is not None:
            if member.size < 0 or archive.offset <= end:
                raise tarfile.ReadError(f"member {member.name!r} has the size {member.size}")
            end = archive.offset
            archive.members = []  # type: ignore[attr-defined]  # 1 KB each, kept by tarfile
            yield member
        # tarfile takes a damaged header for the end, which is a block of zeros or of the file.
        file.seek(archive.offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no member begins at byte {archive.offset:,}")


def _safe_name(name: str, path: Path) -> str:
    """The member's path, with ``/``.

    Raises:
        CalibrationError: It leads out of the folder the archive would be unpacked in.
    """
    slashed = PurePosixPath(name.replace("\\", "/"))
    if slashed.is_absolute() or ".." in slashed.parts or re.match("[A-Za-z]:", name):
        raise CalibrationError(
            f"archive {str(path)!r} is refused: its member {name!r} has a path that leads out of "
            "the archive; pack it again with relative paths"
        )
    return slashed.as_posix()


def _check_size(name: str, size: int, path: Path) -> None:
    if size > LARGEST_PICTURE_BYTES:
        raise CalibrationError(
            f"archive {str(path)!r} is refused: its member {name!r} has {size:,} bytes unpacked, "
            f"a picture may have {LARGEST_PICTURE_BYTES:,}"
        )


def _below_root(names: list[str], path: Path) -> tuple[str, ...]:
    root = _SUFFIX.sub(lambda match: match[0][0], path.name) + "/"
    if all(name.startswith(root) for name in names):
        names = [name.removeprefix(root) for name in names]
    return tuple(names)
