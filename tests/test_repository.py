"""What no file of the repository may hold."""

import re
from pathlib import Path

import pytest

Files = tuple[Path, ...]
LONGEST_MODULE = 300
FORBIDDEN_NAMES = ("utils.py", "helpers.py", "common.py")
# Written in pieces, so that this file passes its own test.
FORBIDDEN = {
    "a path of one machine": rf"(?<![\w.~-])/(?:{'|'.join(['home', 'Users', 'work', 'root'])})/\w",
    "a registry's address": "|".join(
        re.escape(host + tail)
        for host, tail in (("pypi", ".org"), ("python", "hosted.org"), ("conda.anaconda", ".org"))
    ),
    "an index option": r"--(?:extra-)?index" + r"-url|--find" + r"-links",
}
# Not the project's own words: recognized by what they are.
BINARY = {".onnx", ".npz", ".npy", ".png", ".jpg", ".jpeg", ".gif", ".ico", ".gz", ".zip", ".tar"}


def findings(text: str) -> list[str]:
    """What a text holds that it must not, as "line: what: excerpt"."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in FORBIDDEN.items():
            match = re.search(pattern, line)
            if match is not None:
                found.append(f"{number}: {what}: {match[0]!r}")
    return found


def test_there_are_files_to_look_at(repository_files: Files) -> None:
    assert Path("pyproject.toml") in repository_files
    assert Path("quantkit/errors.py") in repository_files


@pytest.mark.parametrize(
    "bad",
    [
        "data = '/ho" + "me/someone/data'",
        "see /wo" + "rk/shared",
        "file:///ro" + "ot/x",
        "from https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/packages/x",
        "pip install --index" + "-url x",
    ],
)
def test_the_check_finds(bad: str) -> None:
    assert findings(bad)


@pytest.mark.parametrize("good", ["a / b", "the ../shared/zoo", "work/home", "at home/work", "~/x"])
def test_the_check_lets_pass(good: str) -> None:
    assert findings(good) == []


def test_no_machine_paths_and_no_registries(repository: Path, repository_files: Files) -> None:
    found = [
        f"{path}:{finding}"
        for path in repository_files
        if path.suffix not in BINARY
        for finding in findings((repository / path).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_binary_files_hold_no_machine_paths(repository: Path, repository_files: Files) -> None:
    pattern = re.compile(FORBIDDEN["a path of one machine"].replace(r"(?<![\w.~-])", "").encode())
    found = [
        f"{path}: {match[0]!r}"
        for path in repository_files
        if path.suffix in BINARY
        for match in [pattern.search((repository / path).read_bytes())]
        if match is not None
    ]
    assert found == []


def test_no_module_for_everything(repository_files: Files) -> None:
    assert [path for path in repository_files if path.name in FORBIDDEN_NAMES] == []


def test_modules_are_short(repository: Path, repository_files: Files) -> None:
    lengths = {
        path: len((repository / path).read_text(encoding="utf-8").splitlines())
        for path in repository_files
        if path.suffix == ".py" and path.parts[0] in ("quantkit", "cli")
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_the_readme_names_every_command(repository: Path) -> None:
    app = pytest.importorskip("quantkit_cli.app", reason="there is no command line yet")
    readme = repository / "README.md"
    if not readme.is_file():
        pytest.skip("there is no README yet")
    text = readme.read_text(encoding="utf-8")
    names = [command.name for command in app.app.registered_commands]
    assert names
    assert [name for name in names if f"quantkit {name}" not in text] == []
