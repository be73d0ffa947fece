"""Bad input: one clear line on stderr, exit code 2, no file touched, no traceback."""

import re
from pathlib import Path

import pytest

from quantkit_cli.app import main
from tests.cli.runner import contents, progress_lines

NOT_A_MODEL = "is not an ONNX model, or is truncated"
QUANTIZED = "is already quantized (46 quantized nodes"
WHICH_PRESET = "holds pictures: say how the model wants them (--preset imagenet, tf, unit or raw)"
REPORT = "report m.onnx m8.onnx --data"
PICTURES = f"{REPORT} pictures --preset raw --labels"
EXPORT = "export m.onnx --calibration m.calib.npz -o o.onnx"

# What is typed, and what the one line must say; paths are in the workbench.
CASES = (
    # Models.
    ("inspect none.onnx", "model 'none.onnx' does not exist; give the path of an ONNX file"),
    ("inspect folder", "model 'folder' is a folder; give the path of an ONNX file"),
    ("inspect text.onnx", "'text.onnx'", NOT_A_MODEL),
    ("inspect empty.onnx", "'empty.onnx' is empty"),
    ("inspect truncated.onnx", "'truncated.onnx'", NOT_A_MODEL),
    ("inspect c.npz", "'c.npz'", NOT_A_MODEL),
    ("inspect nan.onnx", "weight 'stem/conv/weight'", "holds NaN", "export it again"),
    ("calibrate inf.onnx c.npz -o o.npz", "weight 'stem/conv/weight'", "holds infinity"),
    ("calibrate m8.onnx c.npz -o o.npz", QUANTIZED, "give the float model"),
    ("quantize m8.onnx c.npz -o o.onnx", QUANTIZED, "give the float model"),
    ("quantize truncated.onnx c.npz -o o.onnx", "'truncated.onnx'", NOT_A_MODEL),
    ("verify none.onnx --data c.npz", "model 'none.onnx' does not exist"),
    ("verify truncated8.onnx --data c.npz", "'truncated8.onnx'", NOT_A_MODEL),
    ("verify m.onnx --data c.npz", "'m.onnx' is not quantized", "`quantkit quantize`"),
    ("report m8.onnx m8.onnx --data e.npz", QUANTIZED, "give the float model"),
    ("report m.onnx m.onnx --data e.npz", "'m.onnx' is not quantized"),
    ("report m.onnx different8.onnx --data e.npz", "two different networks", "input", "x"),
    ("report different.onnx m8.onnx --data different.npy", "two different networks", "input", "x"),
    # Data.
    ("calibrate m.onnx none.npz -o o.npz", "data 'none.npz' does not exist"),
    ("calibrate m.onnx m8.onnx -o o.npz", "'m8.onnx' is no kind of data", "folder of pictures"),
    ("calibrate m.onnx folder --preset raw -o o.npz", "no pictures in 'folder'", "give a folder"),
    ("calibrate m.onnx pictures -o o.npz", "'pictures'", WHICH_PRESET),
    ("verify m8.onnx --data pictures", "'pictures'", WHICH_PRESET),
    (f"{REPORT} pictures", "'pictures'", WHICH_PRESET),
    ("calibrate m.onnx one_bad --preset raw --strict -o o.npz", "'one_bad/torn.png' cannot be"),
    ("verify m8.onnx --data one_bad --preset raw --strict", "'one_bad/torn.png' cannot be"),
    (f"{REPORT} one_bad --preset raw --strict", "'one_bad/torn.png' cannot be read"),
    ("calibrate m.onnx all_bad --preset raw -qo o.npz", "none of the 1 samples can be read"),
    ("calibrate m.onnx pictures --preset imagenet -o o.npz", "'input' is grey", "one value each"),
    ("calibrate m.onnx pictures --preset nope -o o.npz", "unknown preset 'nope'; known: imagenet"),
    ("calibrate m.onnx pictures --mean 1 -o o.npz", "both --mean and --std are needed"),
    ("calibrate m.onnx pictures --mean a --std 1 -o o.npz", "--mean: numbers", "got 'a'"),
    ("calibrate m.onnx pictures --mean 1 --std 0 -o o.npz", "std > 0, got"),
    ("calibrate m.onnx pictures --preset raw --size 9x9 -o o.npz", "is 8×8, but", "be 9×9"),
    ("calibrate m.onnx pictures --preset raw --size x -o o.npz", "as 224x224, got 'x'"),
    ("calibrate m.onnx pictures --preset raw --layout NHWC -o o.npz", "has 8 channels as NHWC"),
    ("calibrate m.onnx pictures --preset raw --layout up -o o.npz", "NCHW or NHWC, got 'UP'"),
    ("calibrate m.onnx pictures --preset raw --channel-order X -o o.npz", "RGB or BGR, got 'X'"),
    ("calibrate m.onnx pictures --preset raw --crop 2 -o o.npz", "in (0, 1], got 2.0"),
    ("calibrate m.onnx three_channels.npz -o o.npz", "has shape (3, 8, 8)", "expected (1, 8, 8)"),
    ("calibrate m.onnx nine_rows.npz -o o.npz", "has shape (1, 9, 8)", "expected (1, 8, 8)"),
    ("calibrate m.onnx no_channels.npz -o o.npz", "has shape (8, 8)", "expected (1, 8, 8)"),
    ("verify m8.onnx --data three_channels.npz", "has shape (3, 8, 8)", "expected (1, 8, 8)"),
    ("calibrate m.onnx two_inputs.npz -o o.npz", "holds a, b; the model wants input", "np.savez"),
    (f"{REPORT} two_inputs.npz", "holds a, b; the model wants input", "np.savez"),
    ("calibrate m.onnx no_sample.npz -o o.npz", "no_sample.npz holds no sample"),
    ("calibrate m.onnx objects.npz -o o.npz", "Python objects", "save numbers"),
    ("calibrate m.onnx nan_data.npz -o o.npz", "'nan_data.npz[5]' holds NaN", "'input'"),
    ("quantize m.onnx inf_data.npz -o o.onnx", "'inf_data.npz[5]' holds infinity", "'input'"),
    (f"{REPORT} nan_data.npz", "'nan_data.npz[5]' holds NaN for input 'input'"),
    (f"calibrate m.onnx c.npz -o {'n' * 300}.npz", "cannot be written", "name too long"),
    ("calibrate m.onnx pictures --preset raw -o pictures/0.png", "overwrite a file of the data"),
    ("calibrate m.onnx c.npz -o o.npz --workers 2 --dask tcp://a:1", "exclude each other"),
    # Calibration files.
    ("export m.onnx --calibration none.npz -o o.onnx", "file 'none.npz' does not exist"),
    ("export m.onnx --calibration c.npz -o o.onnx", "'c.npz' is not a calibration file"),
    ("export m.onnx --calibration truncated.calib.npz -o o.onnx", "damaged", "calibrate again"),
    ("export m.onnx --calibration flipped.calib.npz -o o.onnx", "damaged", "calibrate again"),
    (
        "export other.onnx --calibration m.calib.npz -o o.onnx",
        "made for another model ('m.onnx', digest",
        "calibrate this model",
    ),
    ("export m8.onnx --calibration m.calib.npz -o o.onnx", QUANTIZED, "give the float model"),
    ("export m.onnx -o o.onnx", "'m.onnx' is not quantized", "`quantkit quantize`"),
    ("export m8.onnx --per-tensor -o o.onnx", "have no effect; give --calibration"),
    ("show none.npz", "calibration file 'none.npz' does not exist"),
    ("show folder", "calibration file 'folder' is a folder"),
    ("show c.npz", "'c.npz' is not a calibration file"),
    ("show truncated.calib.npz --json", "damaged", "calibrate again"),
    ("show newer.calib.npz", "has schema version 99", "update quantkit"),
    ("show m.onnx", "'m.onnx' is a model, not a calibration file", "`quantkit inspect`"),
    ("show m.calib.npz --tensor logit", "no tensor is called 'logit', of 13; near it: logits;"),
    ("show m.calib.npz --tensor logits --tensor zzz*", "no tensor is called 'zzz*', of 13;"),
    ("merge m.calib.npz -o o.npz", "one file, 'm.calib.npz', is nothing to merge; give two"),
    ("merge m.calib.npz ./m.calib.npz -o o.npz", "'m.calib.npz' is given twice", "give it once"),
    ("merge m.calib.npz none.npz -o o.npz", "calibration file 'none.npz' does not exist"),
    ("merge m.calib.npz c.npz -o o.npz", "'c.npz' is not a calibration file"),
    ("merge flipped.calib.npz m.calib.npz -o o.npz", "damaged", "calibrate again"),
    ("merge m.calib.npz newer.calib.npz -o o.npz", "has schema version 99", "update quantkit"),
    (
        "merge m.calib.npz different.calib.npz -o o.npz",
        "'different.calib.npz': calibration tables of different models cannot be merged: 'm.onnx'",
    ),
    (
        "merge m.calib.npz pictures.calib.npz -o o.npz",
        "'pictures.calib.npz': calibration tables with different preprocessing cannot be merged",
    ),
    # Labels.
    (f"{REPORT} e.npz --labels seven.npy", "'seven.npy' do not match", "7 labels for 497 samples"),
    (f"{REPORT} e.npz --labels floats.npy", "'floats.npy' are float64", "a vector of integers"),
    (f"{REPORT} e.npz --labels none.csv", "labels 'none.csv' do not exist"),
    (f"{REPORT} three_labels.npz", "label of three_labels.npz", "expected integers of shape (2,)"),
    (f"{REPORT} float_labels.npz", "label of float_labels.npz is float64", "expected integers"),
    (f"{PICTURES} header.csv", "the first line is name,class, expected the header file,"),
    (f"{PICTURES} no_lines.csv", "'no_lines.csv'", "expected the header file,label"),
    (f"{PICTURES} missing.csv", "1 of 3 samples have no label (2.png)", "file names"),
    (f"{PICTURES} unknown.csv", "3 of 3 samples have no label", "name zebra.png"),
    (f"{PICTURES} words.csv", "'words.csv', line 2: 'cat' is no class number"),
    (f"{PICTURES} too_big.csv", "label of '2.png' is 99", "the 10 classes 0 to 9"),
    (f"{PICTURES} binary.csv", "'binary.csv' cannot be read"),
    (f"{PICTURES} folder", "folder gives no class for 3 of 3 samples", "or give a .csv"),
    # Outputs.
    ("calibrate m.onnx c.npz -o none/o.npz", "the folder 'none' does not exist; make it first"),
    ("calibrate m.onnx c.npz -o folder", "--output 'folder' is a folder; give a file name in it"),
    ("calibrate m.onnx c.npz -o m.onnx", "would overwrite 'm.onnx', which is read here"),
    ("calibrate m.onnx c.npz -o c.npz", "would overwrite 'c.npz', which is read here"),
    ("calibrate m.onnx c.npz -o /dev/null", "'/dev/null' is no regular file"),
    ("calibrate m.onnx c.npz -o c.npz/o.npz", "the folder 'c.npz' is no folder"),
    ("export m.onnx --calibration m.calib.npz -o ./m.onnx", "would overwrite 'm.onnx'"),
    ("export m.onnx --calibration m.calib.npz -o m.calib.npz", "would overwrite 'm.calib.npz'"),
    ("export m.onnx --calibration m.calib.npz -o folder", "'folder' is a folder"),
    ("export m8.onnx -o m8.onnx", "would overwrite 'm8.onnx', which is read here"),
    ("export m8.onnx -o none/o.onnx", "the folder 'none' does not exist; make it first"),
    ("quantize m.onnx c.npz -o m.onnx", "would overwrite 'm.onnx', which is read here"),
    ("quantize m.onnx c.npz -o c.npz", "would overwrite 'c.npz', which is read here"),
    ("quantize m.onnx c.npz -o none/o.onnx", "the folder 'none' does not exist"),
    (
        "quantize m.onnx c.npz -o o.onnx --save-calibration m.onnx",
        "--save-calibration 'm.onnx' would overwrite",
    ),
    (
        "quantize m.onnx c.npz -o o.onnx --save-calibration o.onnx",
        "--output and --save-calibration are both 'o.onnx'",
    ),
    ("demo -o m.onnx", "--output 'm.onnx' cannot be used as a folder", "give another one"),
    ("demo -o m.onnx/x", "--output 'm.onnx/x' cannot be used as a folder", "give another one"),
    ("merge m.calib.npz half.calib.npz -o half.calib.npz", "overwrite 'half.calib.npz'"),
    ("merge m.calib.npz half.calib.npz -o none/o.npz", "the folder 'none' does not exist"),
    ("merge m.calib.npz half.calib.npz -o folder", "'folder' is a folder"),
    ("show m.calib.npz --plot o.xyz", "a picture's name ends in .bmp,", ".png"),
    ("show m.calib.npz --plot none/o.png", "--plot 'none/o.png': the folder 'none' does not exist"),
    ("show plot.png --plot plot.png", "--plot 'plot.png' would overwrite 'plot.png'"),
    # Names and recipes.
    (f"{EXPORT} --format tflight", "unknown export format 'tflight'; known: qdq"),
    (f"{EXPORT} --method kl", "unknown range estimator 'kl'; known: auto, entropy, minmax"),
    (f"{EXPORT} --nodes-to-exclude nope", "no node is called 'nope'", "`quantkit inspect`"),
    (f"{EXPORT} --op-types-to-quantize Foo", "the model has no 'Foo'; it has Clip, Conv"),
    ("quantize m.onnx c.npz -o o.onnx --nodes-to-exclude nope", "no node is called 'nope'"),
    ("quantize m.onnx c.npz -o o.onnx --format nope", "unknown export format 'nope'"),
    (f"{EXPORT} --recipe none.toml", "recipe 'none.toml' cannot be read: No such file"),
    (f"{EXPORT} --recipe no.toml", "recipe 'no.toml' is not TOML"),
    (f"{EXPORT} --recipe wrong_key.toml", "per_chanel", "The entries are range_estimator"),
    (
        f"{EXPORT} --recipe wrong_method.toml",
        "unknown range estimator 'kl'; known: auto, entropy, minmax",
    ),
    ("verify m8.onnx --data c.npz --arithmetic exact", "'exact'; known: fixed_point, onnxruntime"),
    ("show m.calib.npz --sort size", "unknown order 'size' (--sort); known: name, range, tail"),
    ("show m.calib.npz --method kl", "unknown range estimator 'kl'; known: "),
    ("show m.calib.npz --percentile 101", "percentile", "at most 100", "101"),
    # Usage.
    ("nope", "no such command 'nope'; see `quantkit --help`"),
    ("calibrate", "missing argument", "see `quantkit calibrate --help`"),
    ("calibrate m.onnx", "missing argument", "see `quantkit calibrate --help`"),
    ("show", "missing argument", "see `quantkit show --help`"),
    ("merge -o o.npz", "missing argument", "see `quantkit merge --help`"),
    ("merge m.calib.npz half.calib.npz", "missing option '--output'"),
    ("show m.calib.npz --percentile x", "invalid value for '--percentile'"),
    ("export m.onnx", "missing option '--output'", "see `quantkit export --help`"),
    ("verify m8.onnx", "missing option '--data'", "see `quantkit verify --help`"),
    ("inspect m.onnx --jsn", "no such option", "--jsn", "see `quantkit inspect --help`"),
    ("calibrate m.onnx c.npz --num-samples 0", "invalid value for '--num-samples'", "equal to 1"),
    ("calibrate m.onnx c.npz --batch-size x", "invalid value for '--batch-size'", "integer"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
def test_one_clear_line(
    case: tuple[str, ...], workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *parts = case
    before = contents(workbench)
    assert main(command.split()) == 2
    captured = capsys.readouterr()
    progress = re.compile(r"(calibrate|verify|accuracy|layers): \d+ of \d+")
    lines = [line for line in progress_lines(captured.err) if not progress.fullmatch(line)]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert "bug in quantkit" not in lines[0]
    assert ".partial" not in lines[0]
    assert captured.out == ""
    assert contents(workbench) == before


@pytest.mark.parametrize("command", ["calibrate m.onnx {} -o o.npz", "verify m8.onnx --data {}"])
def test_empty_data_are_not_the_current_folder(
    workbench: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    arguments = ["" if part == "{}" else part for part in command.split()]
    assert main(arguments) == 2
    assert "it is empty; give a folder, a file or module:function" in capsys.readouterr().err
