"""Members of zip archives, found through the archive's directory and read without extracting."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantkit.calibration.spool import FileBytes, check_growth
from quantkit.errors import CalibrationError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    struct.error,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged zip archive is seen to raise."""


@dataclass(frozen=True, slots=True, eq=False)
class ZipMember:
    """Where a member lies.

    Attributes:
        header_offset: Of its local header, in bytes.
        packed_size: In the archive, in bytes.
        size: Unpacked, as the archive declares it.
        crc: Of the unpacked bytes.
        is_stored: Whether it is not compressed.
    """

    header_offset: int
    packed_size: int
    size: int
    crc: int
    is_stored: bool


def file_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members that are files: no folders, links or devices."""
    kinds = (0, stat.S_IFREG)  # 0: made where files have no mode
    return [
        info
        for info in archive.infolist()
        if not info.is_dir() and stat.S_IFMT(info.external_attr >> 16) in kinds
    ]


def check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Whether members can be read, and unpack to no more than the archive's size explains.

    Raises:
        CalibrationError: A member is encrypted, or compressed by other means than deflate (whose
            growth per byte has no useful bound); or they grow out of proportion.
    """
    for info in members:
        where = f"member {info.filename!r} of {str(path)!r}"
        if info.flag_bits & _ENCRYPTED:
            raise CalibrationError(f"{where} is encrypted; unpack the archive yourself")
        if info.compress_type not in _METHODS:
            raise CalibrationError(
                f"{where} is compressed with zip's method {info.compress_type}; quantkit reads "
                "stored and deflated members (0 and 8): pack the archive again"
            )
    check_growth(sum(info.file_size for info in members), path.stat().st_size, repr(str(path)))


def member_of(info: zipfile.ZipInfo) -> ZipMember:
    """What reading needs of a member."""
    return ZipMember(
        info.header_offset,
        info.compress_size,
        info.file_size,
        info.CRC,
        info.compress_type == zipfile.ZIP_STORED,
    )


def data_offset(archive: FileBytes, member: ZipMember) -> int:
    """Where a member's bytes begin.

    Raises:
        BadZipFile: There is no local header where the archive's directory says.
    """
    header = archive.read_at(member.header_offset, _LOCAL_HEADER.size)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no member begins at byte {member.header_offset}")
    offset: int = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return offset


def read_member(archive: FileBytes, member: ZipMember) -> bytes:
    """A whole member, unpacked: never more bytes than it declares.

    Raises:
        BadZipFile: It holds more or fewer bytes than it declares, or other ones.
        zlib.error, EOFError, OSError: It is damaged.
    """
    data = archive.read_at(data_offset(archive, member), member.packed_size)
    if not member.is_stored:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    if len(data) != member.size:
        more = "more" if len(data) > member.size else "fewer"
        raise zipfile.BadZipFile(f"it holds {more} than the {member.size:,} bytes it declares")
    if zlib.crc32(data) != member.crc:
        raise zipfile.BadZipFile("its checksum is wrong")
    return data
