"""Measured comparisons; `make bench` runs all of them, `python -m benchmarks.NAME` one.

They need the zoo of models and pictures that `QUANTKIT_ZOO` points to (default `../shared/zoo`).
Figures of one run belong together: the machine drifts, so ratios count.
"""
