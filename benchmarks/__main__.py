"""Run every benchmark; those that have limits decide the exit code."""

import sys

from benchmarks import (
    calibrated_ranges,
    calibration,
    exactness,
    integer_session,
    mobilenets,
    startup,
)
from benchmarks.zoo import has_zoo

if __name__ == "__main__":
    missed = startup.main()
    if has_zoo():
        mobilenets.main()
        missed += exactness.main() + integer_session.main()
        missed += calibration.main() + calibrated_ranges.main()
    sys.exit(1 if missed else 0)
