"""Figures beside their limits."""


def within(what: str, figure: float, limit: float, *, least: bool = False, note: str = "") -> bool:
    """Print a figure and whether it keeps its limit.

    Args:
        what: Name of the figure, with its unit.
        figure: What was measured.
        limit: What it must not exceed.
        least: Whether it must not fall below the limit instead.
        note: Whatever else there is to say.

    Returns:
        Whether the limit is kept.
    """
    kept = figure >= limit if least else figure <= limit
    bound = "at least" if least else "at most"
    verdict = "met" if kept else "MISSED"
    print(f"  {what:<58} {figure:8.3f}   {bound} {limit:g}: {verdict}{note}")
    return kept
