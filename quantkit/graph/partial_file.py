"""Files that are whole or not there: written beside their place, then renamed."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` that is renamed to it at the end, or removed on any error.

    Raises:
        OSError: There is no such folder, it cannot be written to, or ``path`` is a folder or a
            device.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{str(path)!r} exists and is no regular file")
    # Names of files may be long already; the digest tells whose part it is.
    partial = path.with_name(f"{_partial_prefix(path)}{secrets.token_hex(8)}.partial")
    try:
        # Created as any new file is, with the permissions that the umask leaves.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.filename != str(partial):
            raise
        # The user knows the file by its own name.
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_partial_files(path: Path) -> None:
    """Remove what killed processes left of ``path``; call it where no other one writes it."""
    for partial in path.parent.glob(f"{_partial_prefix(path)}*.partial"):
        partial.unlink(missing_ok=True)


def _partial_prefix(path: Path) -> str:
    return f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}."
