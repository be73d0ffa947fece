"""Other quantization tools, each run by its own Python on the same arrays.

``QUANTKIT_COMPARE`` is the folder with one script per tool (default ``../shared/compare``),
``QUANTKIT_PEERS`` a folder with one virtual environment per tool, named as in :data:`TOOLS`.
onnxruntime's quantizer runs in this environment. Whatever is absent is skipped, and named.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants import available_gb

ONNXRUNTIME = "onnxruntime"
MINMAX = f"{ONNXRUNTIME} MinMax"
NNCF = "NNCF"


@dataclass(frozen=True, slots=True)
class Tool:
    """A way to quantize with another tool.

    Attributes:
        label: What tables call it.
        environment: The virtual environment's name; empty: this one.
        script: The file in ``QUANTKIT_COMPARE``; empty: :mod:`benchmarks.peers`.
        options: What follows model, samples and output.
        needs_gb: Free memory that it takes on the largest network, where that is much.
    """

    label: str
    environment: str = ""
    script: str = ""
    options: tuple[str, ...] = ()
    needs_gb: float = 0.0

    @property
    def python(self) -> Path:
        """The tool's interpreter."""
        if not self.environment:
            return Path(sys.executable)
        return Path(os.environ.get("QUANTKIT_PEERS", "")) / self.environment / "bin" / "python"

    def command(self, model: Path, samples: Path, output: Path) -> list[str]:
        """What quantizes ``model`` on the rows of an ``.npy``."""
        program = [str(_scripts() / self.script)] if self.script else ["-m", "benchmarks.peers"]
        return [str(self.python), *program, *map(str, (model, samples, output)), *self.options]

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        if self.script and not (_scripts() / self.script).is_file():
            return f"no {self.script} in {_scripts()}: set QUANTKIT_COMPARE to the scripts' folder"
        if self.environment and "QUANTKIT_PEERS" not in os.environ:
            return "set QUANTKIT_PEERS to a folder with one virtual environment per tool"
        if not self.python.is_file():
            return f"no {self.python}: make a virtual environment there and install the tool in it"
        if available_gb() < self.needs_gb:
            return f"less than {self.needs_gb:g} GB of memory are free"
        return ""


TOOLS = (
    Tool(MINMAX, script="peer_ort.py", options=("MinMax", "QDQ", "preprocess")),
    Tool(
        f"{ONNXRUNTIME} Percentile",
        script="peer_ort.py",
        options=("Percentile", "QDQ", "preprocess"),
        needs_gb=10.0,
    ),
    Tool(NNCF, "nncf", "peer_nncf.py"),
    Tool("NNCF accurate", "nncf", "peer_nncf.py", ("accurate",)),
    Tool("AIMET CLE", "aimet", "peer_aimet.py", ("cle",)),
)
PER_TENSOR_TOOLS = (Tool(MINMAX),)
"""Those that can give a weight one scale."""


def own_seconds(output: str) -> float | None:
    """The time that a script prints: without start-up and imports."""
    found = re.search(r"^time ([\d.]+)s", output, re.MULTILINE)
    return float(found[1]) if found else None


def _scripts() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "compare"
    return Path(os.environ.get("QUANTKIT_COMPARE", default))
