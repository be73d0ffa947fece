"""Wall time and peak memory of a command, from its start to its end.

Linux starts a process's peak memory at that of the process it was started from, so a small one
stands between: ``python -m benchmarks.child_process COMMAND ...`` prints JSON as its last line.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Attributes:
        exit_code: What it ended with; the negative number of the signal that ended it.
        wall_s: Wall time in seconds, start-up included.
        peak_mb: The largest resident memory of it and its children, each taken alone.
        output: What it printed.
        errors: What it printed to stderr.
    """

    exit_code: int
    wall_s: float
    peak_mb: float
    output: str
    errors: str


def run_command(command: list[str]) -> Run:
    """Run a command and measure it; it inherits the environment, but no limit of BLAS threads."""
    launcher = [sys.executable, "-m", "benchmarks.child_process", *command]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(launcher, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{' '.join(launcher)}\n{done.stderr}")
    output, _, figures = done.stdout.rstrip("\n").rpartition("\n")
    return Run(output=output, errors=done.stderr, **json.loads(figures))


def main(command: list[str]) -> None:
    """Run the command and print its figures."""
    # Set for this package alone; whatever else is measured chooses by itself.
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    start = time.perf_counter()
    _, status, usage = os.wait4(os.posix_spawnp(command[0], command, environment), 0)
    wall = time.perf_counter() - start
    unit = 2**20 if sys.platform == "darwin" else 2**10
    figures = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall_s": wall,
        "peak_mb": usage.ru_maxrss / unit,
    }
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
