"""Whatever the user's own code does, it is one line, and stdout stays quantkit's."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantkit.calibration.data_functions import called
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.errors import CalibrationError
from quantkit.graph.program import TensorSpec

X = np.ones((1, 2), np.float32)
INPUT = TensorSpec("x", np.dtype(np.float32), ("N", 2))


class Own(BaseException):
    pass


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError


def opened(source: Any, count: int | None = None) -> Dataset:
    return open_dataset(source, [INPUT], preprocessing=None, num_samples=count)


def refusal(source: Any, count: int | None = None) -> str:
    with pytest.raises(CalibrationError) as caught:
        opened(source, count)
    text = str(caught.value)
    assert "\n" not in text
    return text


RAISED = [
    (SystemExit(0), "SystemExit: 0"),
    (SystemExit("bye"), "SystemExit: bye"),
    (GeneratorExit(), "GeneratorExit: GeneratorExit"),
    (Own("x\ny"), "Own: x y"),
    (MuteError(), "MuteError: MuteError"),
    (StopIteration(), "StopIteration"),
    (MemoryError(), "MemoryError: MemoryError"),
    (KeyError("cuda"), "KeyError: 'cuda'"),
]


@pytest.mark.parametrize(("error", "text"), RAISED)
def test_anything_raised_is_one_line(error: BaseException, text: str) -> None:
    def feeds() -> Iterator[dict[str, Any]]:
        yield {"x": X}
        raise error

    class Reader:
        def get_next(self) -> dict[str, Any]:
            raise error

    class Iterable:
        def __iter__(self) -> Iterator[Any]:
            raise error

    class Lazy(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise error

        def __iter__(self) -> Iterator[str]:
            return iter(["x"])

        def __len__(self) -> int:
            return 1

    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise error

    assert re.search(f"^item 1 of sample cannot be had: .*{re.escape(text)}$", refusal(feeds()))
    assert refusal(Reader()).startswith("item 0 of sample cannot be had: ")
    assert refusal(Iterable()).startswith("item 0 of sample cannot be had: ")
    assert refusal([Lazy()]).startswith("x of item 0 cannot be had: ")
    assert refusal(Lazy()).startswith("the arrays of array cannot be had: ")
    assert refusal([{"x": Tensor()}]).startswith("x of item 0 is no array: ")
    for source in (Reader(), Iterable(), [Lazy()], Lazy(), [{"x": Tensor()}]):
        assert refusal(source).endswith(text)


def test_an_interrupt_passes() -> None:
    def feeds() -> Iterator[dict[str, Any]]:
        yield {"x": X}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(feeds())


def test_none_ends_a_reader_and_nothing_else() -> None:
    items = [{"x": X}, None, {"x": X}]
    expected = "item 1 of the data is a NoneType, expected a dict of arrays by input name"
    assert refusal(items) == expected
    assert refusal(tuple(items)) == expected
    assert refusal(item for item in items) == expected

    class Reader:
        def __init__(self) -> None:
            self.rest = iter(items)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rest)

    assert len(opened(Reader())) == 1


def test_keys_that_are_no_strings() -> None:
    assert refusal([{1: X, None: X}]).startswith("item 0 holds 1, None; the model wants x")
    assert refusal({MuteError(): X, 2: X}).startswith("array holds MuteError, 2; the model wants x")
    assert len(opened([{1: X}])) == 1


def test_a_generator_that_fails_when_it_is_left() -> None:
    def feeds() -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield {"x": X}
        finally:
            sys.exit("late")

    text = "sample failed when it was closed: SystemExit: late"
    assert refusal(feeds(), 2) == text


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(body: str, name: str = "own_feeds") -> str:
        Path(f"{name}.py").write_text(f"import sys\nimport numpy as np\n{body}\n")
        return f"{name}.py:f"

    return write


@pytest.mark.parametrize("where", ["import", "call"])
@pytest.mark.parametrize(
    "what", ["sys.exit(0)", "raise GeneratorExit", "raise E", "raise MuteError"]
)
def test_modules_and_functions_that_leave(write: Any, where: str, what: str) -> None:
    classes = "class E(BaseException): pass\n"
    classes += "class MuteError(Exception):\n def __str__(self): return 1 / 0\n"
    text = write(classes + (what if where == "import" else f"def f(): {what}"))
    assert ("cannot be imported: " if where == "import" else "f() failed: ") in refusal(text)


def test_prints_of_a_function_go_to_stderr(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = write(
        "print('at import')\n"
        "def f():\n"
        "  print('at the call')\n"
        "  try:\n"
        "    while True:\n"
        "      print('at an item', flush=True)\n"
        "      sys.stdout.write('written\\n')\n"
        "      yield {'x': np.ones((1, 2))}\n"
        "  finally:\n"
        "    print('at the end')"
    )
    before = sys.stdout
    assert len(opened(text, 2)) == 2
    assert sys.stdout is before
    sys.stdout.write("{}\n")
    out, err = capsys.readouterr()
    assert out == "{}\n"
    items = ["at an item", "written"] * 2
    assert err.splitlines() == ["at import", "at the call", *items, "at the end"]


@pytest.mark.parametrize(
    "what", ["sys.stdout.close()", "sys.stdout = None", "import io; sys.stdout = io.StringIO()"]
)
def test_a_module_that_takes_stdout(
    write: Any, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(f"{what}\ndef f():\n  {what}\n  return np.ones((3, 2))")
    before = sys.stdout
    assert len(opened(text)) == 3
    assert sys.stdout is before
    sys.stdout.write("still there\n")
    sys.stderr.write("this too\n")
    assert capsys.readouterr() == ("still there\n", "this too\n")


def test_no_stderr(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write("def f():\n  print('to nobody')\n  return np.ones((3, 2))")
    monkeypatch.setattr(sys, "stderr", None)
    assert len(opened(text)) == 3


def test_functions_called_from_several_threads(write: Any) -> None:
    text = write("import time\ndef f():\n  time.sleep(0.002)\n  return np.ones((3, 2))")
    path, stdout = list(sys.path), sys.stdout

    def one(_: int) -> int:
        with called(text) as value:
            time.sleep(0.001)
            assert sys.path[: -len(path)] == [str(Path.cwd())] * 2
            return len(value)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(12))) == [3] * 12
    assert (sys.path, sys.stdout) == (path, stdout)
