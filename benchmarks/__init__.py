"""Measured comparisons; `make bench` runs all of them, `python -m benchmarks.NAME` one.

Two run alone, as they take long: `python -m benchmarks.recipes` (every recipe beside other tools)
and `python -m benchmarks.ablation` (every recovery step alone, and all but it).

They need the zoo of models and pictures that `QUANTKIT_ZOO` points to (default `../shared/zoo`).
Figures of one run belong together: the machine drifts, so ratios count.
"""

import os

# As the program sets it: OpenBLAS's threads wait for each other on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
