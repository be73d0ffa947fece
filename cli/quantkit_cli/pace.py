"""How fast something goes and how long it will take, in words."""

import time
from collections.abc import Callable, Sequence

Pace = Callable[[int, int], Sequence[str]]
"""Told what is done and what there is in all, it says the rate and the remaining time, if known."""

# From here on "each" is easier to grasp than "per second".
_SLOW_PER_S = 1.0
_FINE_PER_S = 10.0
_MINUTE_S, _HOUR_S = 60, 3600


def measured_pace() -> Pace:
    """The mean rate from the first call on.

    What is done at the first call does not count: an earlier run may have done it.
    """
    first: tuple[float, int] | None = None

    def words(done: int, total: int) -> Sequence[str]:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now, done
        seconds, count = now - first[0], done - first[1]
        if count <= 0 or seconds <= 0.0:
            return ()
        rate = rate_text(count / seconds)
        if done >= total:
            return (rate,)
        return rate, f"{duration_text((total - done) * seconds / count)} left"

    return words


def rate_text(per_second: float) -> str:
    """A rate, or below one per second what each takes."""
    if per_second < _SLOW_PER_S:
        each = 1 / per_second
        return f"{each:.1f} s each" if each < _MINUTE_S else f"{duration_text(each)} each"
    return f"{per_second:.0f}/s" if per_second >= _FINE_PER_S else f"{per_second:.1f}/s"


def duration_text(seconds: float) -> str:
    """A duration in at most two units, rounded up to the smaller one."""
    whole = -int(-seconds // 1)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    minutes = -(-whole // _MINUTE_S)
    return f"{minutes // 60} h {minutes % 60} min"
