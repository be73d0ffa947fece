"""The documentation says what the code does: generated parts are fresh, and commands run."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import quantkit
from quantkit import bundled
from quantkit.reporting.report import ClassFlip
from quantkit_cli.app import app
from tests.cli.runner import run
from tests.ops_table import float_islands, ops_table
from tests.report_schema import documented_models, meanings, schema_text
from tests.worked_example import codes, example_text

PAGES = (
    "README.md",
    "docs/accuracy.md",
    "docs/calibration.md",
    "docs/integers.md",
    "docs/report.md",
)
ON_DIGITS = ("README.md", "docs/accuracy.md", "docs/integers.md", "docs/report.md")
JOBS = "docs/report.md"
RECIPES = ("README.md", "docs/accuracy.md")
OPTION = r"(?<![\w-])--?[a-z][a-z-]*"
QUANTIZED = "digits.int8.onnx"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are in one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def with_part(text: str, name: str, part: str) -> str:
    """The page with what stands between ``<!-- name -->`` and ``<!-- end -->`` replaced."""
    begin = f"<!-- {name} -->\n"
    before, found, rest = text.partition(begin)
    assert found, f"the page has no part {name!r}"
    return f"{before}{begin}{part}{rest[rest.index('<!-- end -->') :]}"


def commands(page: Path) -> Iterator[str]:
    """What follows ``$ quantkit`` in its console blocks."""
    for block in blocks(page, "console"):
        yield from re.findall(r"^\$ quantkit (.*?)(?: +# .*)?$", block, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("docs/ops.md", {"table": ops_table}),
        ("docs/report.md", {"schema": schema_text}),
        (
            "docs/integers.md",
            {
                "example": lambda: f"```\n{example_text()}\n```",
                "islands": lambda: ", ".join(float_islands()),
            },
        ),
    ],
)
def test_generated_parts_are_fresh(
    name: str, parts: dict[str, Callable[[], str]], repository: Path, update_golden: bool
) -> None:
    page = repository / name
    fresh = text = page.read_text(encoding="utf-8")
    for part, made in parts.items():
        fresh = with_part(fresh, part, f"\n{made()}\n\n")
    if update_golden:
        page.write_text(fresh, encoding="utf-8")
        return
    assert text == fresh


def test_every_field_of_the_report_is_explained() -> None:
    models = documented_models()
    assert len(models) > 10
    for model in models:
        fields = {*model.model_fields}
        assert {*meanings(model)} == fields or (model is ClassFlip and len(fields) == 3), model


def test_the_worked_example_is_what_onnxruntime_returns() -> None:
    found = codes()
    assert found["onnxruntime"] == found["onnxruntime itself"]
    # The page explains a tie and a double rounding; both must be there.
    pairs = zip(found["onnxruntime"], found["fixed_point"], strict=True)
    assert [other - one for one, other in pairs] == [0, 1, 1]


@pytest.fixture
def options(capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
    """The options of every command, from its help."""
    names = [str(command.name) for command in app.registered_commands]
    texts = {name: run(f"{name} --help", capsys)[0] for name in names}
    return {name: set(re.findall(OPTION, text)) for name, text in texts.items()}


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_their_options_exist(
    name: str, repository: Path, options: dict[str, set[str]]
) -> None:
    for command in commands(repository / name):
        verb, *words = command.split()
        assert verb in options, command
        assert {word for word in words if re.fullmatch(OPTION, word)} <= options[verb], command


@pytest.mark.parametrize("name", PAGES)
def test_options_in_the_text_exist(
    name: str, repository: Path, options: dict[str, set[str]]
) -> None:
    text = (repository / name).read_text(encoding="utf-8")
    named = set(re.findall(rf"(?<=`){OPTION}", text))
    assert named
    assert named - set().union(*options.values()) == set()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_in_the_text_can_be_read(name: str, repository: Path, tmp_path: Path) -> None:
    recipes = blocks(repository / name, "toml")
    assert recipes
    for recipe in recipes:
        (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
        quantkit.read_config(tmp_path / "recipe.toml")


def test_the_readme_names_every_choice(repository: Path) -> None:
    text = "".join(blocks(repository / "README.md", "toml"))
    named = set(re.findall(r"^(\w+) =", text, re.MULTILINE))
    assert named == {"base", *quantkit.QuantConfig.model_fields}


@pytest.mark.parametrize("name", ["README.md", "docs/integers.md", "docs/report.md"])
def test_links_lead_somewhere(name: str, repository: Path) -> None:
    page = repository / name
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (page.parent / target).is_file()] == []


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that `quantkit demo` leaves, as far as the pages use it; the working folder."""
    with bundled.folder() as source:
        for file in source.glob("digits_*"):
            shutil.copyfile(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    quantkit.quantize("digits_mobilenet.onnx", "digits_calibration.npz").save(QUANTIZED)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DIGITS)
def test_commands_and_examples_on_the_digits_run(
    name: str, repository: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = repository / name
    shown = [line for block in blocks(page, "console") for line in block.splitlines()]
    own = [command for command in commands(page) if "digits" in command]
    assert own
    for command in own:
        out, _ = run(command, capsys)
        following = shown[shown.index(f"$ quantkit {command}") + 1 :][:1]
        # Codes are the same on every machine that calibrates the same; counts of them always are.
        if following and following[0].startswith("PASS"):
            assert out.splitlines()[0] == following[0]
    examples = [block for block in blocks(page, "python") if "digits" in block]
    assert examples
    for example in examples:
        exec(compile(example, name, "exec"), {})


@pytest.mark.slow
def test_jobs_do_what_they_say(
    repository: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = blocks(repository / JOBS, "yaml")
    assert len(jobs) == 2
    for job in jobs:
        (command,) = re.findall(r">-\n\s+quantkit (.*?)(?=\n\s+- |\n  artifacts:)", job, re.DOTALL)
        run(" ".join(command.split()), capsys)
        written = set(re.findall(r"(?:--output|-o) (\S+)", command))
        assert written
        for name in written:
            assert (digits / name).stat().st_size > 0
            assert job.count(name) > 1, "it is kept"
            (digits / name).unlink()
