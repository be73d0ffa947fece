"""Bytes at an offset: of a file, or of an anonymous temporary file that is filled once.

Rows of arrays and members of archives are read from here, by any thread in any order. An anonymous
file has no name in any folder: it lies where ``TMPDIR`` says and is gone with the process, however
that ends.
"""

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from quantkit.errors import CalibrationError

CHUNK_BYTES = 2**20
# Numbers and pictures as they occur shrink by less than this; a zip bomb shrinks 1,000 times.
MOST_GROWTH = 100
# Up to here no growth is suspicious: a mask of zeros is small work for everybody.
ALWAYS_ALLOWED_BYTES = 2**30


class ByteStore(Protocol):
    """Bytes that can be read anywhere, from several threads."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes.

        Raises:
            EOFError: There are fewer.
            OSError: They cannot be read.
            CalibrationError: The file changed since the data were opened.
        """


class Readable(Protocol):
    """What is read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(frozen=True, slots=True, eq=False)
class FileBytes:
    """A file by name, opened for each read.

    Attributes:
        path: The file.
        size: In bytes, when the data were opened.
    """

    path: Path
    size: int

    @classmethod
    def of(cls, path: Path) -> "FileBytes":
        """The file as it is now.

        Raises:
            OSError: It cannot be looked at.
        """
        return cls(path, path.stat().st_size)

    def read_at(self, offset: int, size: int) -> bytes:
        """See :class:`ByteStore`, and :meth:`check`."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return _read(file.fileno(), offset, size)
        except (OSError, EOFError):
            self.check()
            raise

    def check(self) -> None:
        """Whether the file still is what it was: what tells changed data from damaged ones.

        Raises:
            CalibrationError: It is gone, or shorter than when the data were opened.
        """
        try:
            size = self.path.stat().st_size
        except OSError:
            state = "it is gone"
        else:
            if size >= self.size:
                return
            state = f"it has {size:,} bytes, {self.size:,} when the data were opened"
        raise CalibrationError(
            f"{str(self.path)!r} changed while it was read: {state}; "
            "put the data back and start again"
        )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Spool:
    """An anonymous temporary file, closed when nothing refers to it any more.

    Attributes:
        file: Unbuffered.
    """

    file: IO[bytes]

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self.file.fileno()).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """See :class:`ByteStore`."""
        return _read(self.file.fileno(), offset, size)


def spooled(chunks: Iterable[bytes], what: str, packed_bytes: int | None = None) -> Spool:
    """Write chunks one after the other to an anonymous temporary file.

    Args:
        chunks: Taken one at a time.
        what: They come from, for messages.
        packed_bytes: What they were unpacked from; None: they were not.

    Raises:
        CalibrationError: They grow out of proportion (see :func:`check_growth`), or the temporary
            folder is full.
    """
    spool = Spool(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - closed with the spool
    room = shutil.disk_usage(tempfile.gettempdir()).free * 9 // 10  # a full disk stops others too
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if packed_bytes is not None:
            check_growth(size, packed_bytes, what)
        if size > room or not _written(spool.file.fileno(), chunk):
            raise CalibrationError(
                f"{what} does not fit into the temporary folder {tempfile.gettempdir()!r}; "
                "set TMPDIR to a folder with more room"
            )
    return spool


def check_growth(size: int, packed_bytes: int, what: str) -> None:
    """Whether unpacking ``packed_bytes`` to ``size`` is what data do.

    Raises:
        CalibrationError: More than 100 times and more than 1 GiB.
    """
    if size > max(MOST_GROWTH * packed_bytes, ALWAYS_ALLOWED_BYTES):
        raise CalibrationError(
            f"{what} unpacks to {size:,} bytes or more from {packed_bytes:,}, over "
            f"{MOST_GROWTH} times: a zip bomb? Unpack it yourself if you trust it"
        )


def chunks_of(file: Readable) -> Iterator[bytes]:
    """The rest of a file, in pieces of 1 MiB."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def stamp_of(texts: Iterable[str], files: Iterable[Path] = ()) -> str:
    """SHA-256 over texts, and the names, sizes and modification times of files, as hex digits.

    A file that is gone counts as one without size.
    """
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode(errors="backslashreplace")
        digest.update(b"%d:" % len(data) + data)
    for file in files:
        try:
            state = file.stat()
            facts = (file.name, state.st_size, state.st_mtime_ns)
        except OSError:
            facts = (file.name, -1, -1)
        digest.update(repr(facts).encode())
    return digest.hexdigest()


def one_line(value: object) -> str:
    """An error's (or any object's) text on one line, or its type where it has none."""
    try:
        text = str(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's own classes may raise anything
        text = ""
    return " ".join(text.split()) or type(value).__name__


def _read(descriptor: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = os.pread(descriptor, size, offset)  # no shared position: threads do not meet
        if not part:
            raise EOFError("it ends early; was it changed meanwhile?")
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _written(descriptor: int, chunk: bytes) -> bool:
    """Whether there was room for all of it."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        return False
    return True
