"""What an interrupted pass has done so far: a file beside the table, gone when the table is whole.

The file is a calibration file whose metadata also say which samples are in it and, by a digest,
of which work: model, data, preprocessing and options. Work is continued only where all of that is
the same.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quantkit.calibration.parts import Interval, Part, united
from quantkit.calibration.table import DAMAGE, CalibrationTable, merge
from quantkit.calibration.table_file import pack, read_file, write_file
from quantkit.errors import CalibrationError

# Saving takes at most this share of the time, and is not worth while more often than this.
_SHARE = 1 / 20
_SECONDS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A pass in the middle.

    Attributes:
        table: Of the samples done.
        done: Which samples these are; in order, not touching each other.
    """

    table: CalibrationTable
    done: tuple[Interval, ...]

    def joined(self, part: Part) -> "Checkpoint":
        """With one more part."""
        return Checkpoint(merge(self.table, part.table), united([*self.done, part.interval]))

    def save(self, path: Path, work: str) -> None:
        """Write the file beside the last one, then replace that.

        Args:
            path: The file.
            work: Digest of all that must be the same for the pass to be continued.

        Raises:
            CalibrationError: The place cannot be written to.
        """
        metadata = {**self.table.metadata(), "done": self.done, "work": work}
        try:
            write_file(path, metadata, pack(self.table.statistics))
        except OSError as error:
            raise CalibrationError(f"cannot write {str(path)!r}: {error}") from error

    @classmethod
    def load(cls, path: Path, work: str) -> "Checkpoint":
        """Read what an interrupted pass left.

        Raises:
            CalibrationError: Damaged, or of other work than ``work``.
        """
        try:
            table = CalibrationTable.load(path)
            metadata, _ = read_file(path)
            done = united((int(first), int(last)) for first, last in metadata["done"])
            same = metadata["work"] == work
        except DAMAGE as error:
            raise CalibrationError(
                f"the interrupted pass in {str(path)!r} cannot be continued ({error}); "
                "remove the file, or leave out --resume"
            ) from error
        if not same:
            raise CalibrationError(
                f"the interrupted pass in {str(path)!r} is of another model, other data or other "
                "options (those files may have changed since); remove it, or leave out --resume"
            )
        return cls(table, done)


def join_parts(
    parts: Iterable[Part], begun: Checkpoint | None, path: Path | None, work: str
) -> Checkpoint | None:
    """Join parts as they come, and keep what is done.

    Args:
        parts: Of one pass, in any order.
        begun: What was done before.
        path: Where to keep what is done; None: nowhere.
        work: See :meth:`Checkpoint.save`.

    Returns:
        All together; None where there was nothing.
    """
    state, saved = begun, begun
    pause, last = _SECONDS, time.monotonic()
    try:
        for part in parts:
            state = state.joined(part) if state else Checkpoint(part.table, (part.interval,))
            if path is not None and time.monotonic() - last >= pause:
                before = time.monotonic()
                state.save(path, work)
                saved, last = state, time.monotonic()
                pause = max(_SECONDS, (last - before) / _SHARE)
    except BaseException:
        if path is not None and state is not saved and state and state.table.sample_count:
            state.save(path, work)
        raise
    return state
