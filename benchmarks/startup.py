"""Median start-up time of ``quantkit --help`` and of every command's help.

Run with ``python -m benchmarks.startup``; limits: 0.25 s and 0.6 s.
"""

import statistics
import subprocess
import sys
import time

from quantkit_cli.app import app

RUNS = 15
LIMIT_S = 0.25
COMMAND_LIMIT_S = 0.6


def median_s(arguments: list[str], runs: int = RUNS) -> float:
    """Median wall time of a fresh process, after one that warms the disk cache."""
    program = [sys.executable, "-m", "quantkit_cli.app", *arguments]
    times: list[float] = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(program, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> int:
    """Print one line per help text; 1 if one is slower than its limit."""
    names = [command.name or "" for command in app.registered_commands]
    cases = [([], LIMIT_S), *(([name], COMMAND_LIMIT_S) for name in names)]
    missed = 0
    for command, limit in cases:
        seconds = median_s([*command, "--help"])
        missed += seconds > limit
        label = " ".join(["quantkit", *command, "--help"])
        print(f"{label:<32} {seconds:6.3f} s   (limit {limit} s)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
