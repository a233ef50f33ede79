"""Bad input: every mistake gets a message that names field, value and fix. ``SBA_ABUSE=long`` takes ten times as many examples."""

import contextlib
import copy
import json
import math
import os
import random
import re
import tempfile
import typing
from pathlib import Path

import click
import hypothesis.strategies as st
import pytest
from click.testing import CliRunner
from helpers import bounds
from hypothesis import given, settings
from strategies import MORE, junk, texts

from sba import SBAError, make_run
from sba.book.execution import check_parameters, unlike
from sba.cli.commands import main
from sba.core.errors import ConfigError
from sba.core.hyper import choices, definitions
from sba.data.sources import ROOT_VARIABLE
from sba.methods import METHODS
from sba.training.run import Run, from_settings

LONG = os.environ.get("SBA_ABUSE") == "long"
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# ------------------------------------------------------------------------------------------------------ command line


def outside(field):
    """Values just outside of a numeric range."""
    low, high = bounds(field)
    whole = field.annotation is int
    closed_low = any(hasattr(m, "ge") for m in field.metadata)
    closed_high = any(hasattr(m, "le") for m in field.metadata)
    if low is not None:
        yield low - 1 if closed_low and whole else math.nextafter(low, -math.inf) if closed_low else low
        yield low - 1000 if whole else low - 1e3
    if high is not None:
        yield high + 1 if closed_high and whole else math.nextafter(high, math.inf) if closed_high else high


def bad_values(field):
    """Texts that a hyper-parameter must refuse, from its definition."""
    if field.annotation is bool:
        return []
    if options := choices(field):
        return ["", " ", "None", "0", f"{options[0]} ", f"{options[0]}x"]
    if field.annotation in (int, float):
        texts = ["", " ", "abc", "1,5", "0x10", "None", "true", "[1]", "1e", "--", "−1", "nan", "inf", "-inf"]
        texts += ["1.5", "1e3", "1e400"] if field.annotation is int else ["1e400"]
        return texts + [str(int(v)) if field.annotation is int else repr(float(v)) for v in outside(field)]
    if field.annotation == tuple[int, ...]:
        return ["abc", "1.5", "1,x", "2,1", "1,1"]
    return ["nolayer", "input,nolayer"]


def bad_parameters():
    """(name, text, method) for every hyper-parameter of a run and of every method."""
    for cls, method in [(Run, "erm"), *((cls, cls.name) for cls in METHODS.values())]:
        for name, field in definitions(cls).items():
            if name not in ("method", "dataset", "network", "full_epochs"):
                for text in bad_values(field):
                    yield name, text, method


BAD = list(bad_parameters())


def flag(name):
    return f"--{name.replace('_', '-')}"


STUDY_FLAGS = {
    "--seeds": ["0", "-1", "x", "1.5", ""],
    "--first-seed": ["-1", "x"],
    "--jobs": ["0", "x"],
    "--threads": ["0", "x"],
    "--budget": ["-1", "x"],
    "--epochs-scale": ["0", "-1", "x", "nan"],
    "--amp": ["fp8", ""],
    "--device": ["gpu", "cuda:x", ""],
    "--methods": ["nosuch", "erm,nosuch"],
    "--where": ["mnist", "digits/nosuch", "/"],
    "--workers": ["-1", "x"],
}
OTHER_COMMANDS = [
    *(("sweep", "omega-eta", flag, value) for flag, values in STUDY_FLAGS.items() for value in values),
    *(("sweep", name) for name in ("", "fig9", "table1", "--", "omega-eta extra")),
    *(("train", "--dataset", value) for value in ("", "mnist", "cifar", "folder:", "folder:/nowhere", "imagenette")),
    *(("train", "--network", value) for value in ("resnet", "alexnet", "resnet50")),
    *(("train", "--method", value) for value in ("", "SBA", "sgd")),
    *(("train", "--preset", value) for value in ("", "none", "paper")),
    *(("train", "--device", value) for value in ("", "gpu", "cuda:99", "cpu:x")),
    *(("train", "--threads", value) for value in ("0", "-1", "many")),
    *(("train", "--budget", value) for value in ("-1", "soon")),
    *(("train", flag) for flag in ("--nosuch", "--eta=0.1", "--k=2", "--graphs", "--adapt-norm", "--side=16", "stray")),
    *(("train", "--results", value) for value in ("/proc/none/r.jsonl", "/dev/null/r.jsonl", "/")),
    *(("train", "--folder", value) for value in ("/proc/none", "/dev/null/x")),
    *(("notebooks", "-p", "seed", value, "--only", "01_tour") for value in ("{", "abc", "1.5", "[1]", "null", "true")),
    *(("notebooks", "--only", value) for value in ("", "99_none")),
    ("notebooks", "-p", "nosuch", "1"),
    ("notebooks", "--source", "/nowhere"),
    *(("table", "--results", value) for value in ("/nowhere", "/nowhere.jsonl", "/proc/self/mem")),
    ("table", "--results", "/dev/null", "--readme", "/nowhere/README.md"),
    *(("bench", "--only", value) for value in ("", "everything")),
    ("bench", "--device", "gpu"),
    ("nosuch",),
]


def words(command):
    """What a message may name: a flag, its field, its value."""
    given = {w or "''" for w in command[1:]} or set(command)
    return given | {w.lstrip("-").replace("-", "_").split("=")[0] for w in given if w.startswith("--") and len(w) > 2}


FIXES = re.compile(
    "give |choose|known are|did you mean|not in the range|is not a valid|must be|no such|there are|is not one of|knows|declares|"
    "install|missing|got unexpected|belongs to|one of|is not a list|see '|copy its|no notebooks here|add --|leave it out|unknown|"
    "makes no sense|add|move it|needs"
)


def refused(command):
    """Run a command that must be refused, in an empty folder; return what it says."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if command[0] == "notebooks" and "--source" not in command:
            os.symlink(ROOT / "notebooks", "notebooks")
        before = set(os.listdir())
        # data that lie here would make a mistake a long run
        result = CliRunner(env={ROOT_VARIABLE: None}).invoke(main, list(command))
        assert set(os.listdir()) == before, f"{command} wrote {set(os.listdir()) - before}"
    assert result.exit_code not in (0, 1), f"{command}: {result.exit_code} {result.output!r} {result.exception!r}"
    assert isinstance(result.exception, SystemExit) and "Traceback" not in result.output
    said = result.output.replace("-", "_")
    assert any(w.replace("-", "_") in said for w in words(command)), f"{command}: {result.output}"
    assert FIXES.search(result.output.lower()), f"{command} has no fix: {result.output}"
    return result.output


@pytest.mark.parametrize("method", METHODS)
def test_every_bad_value_of_every_hyper_parameter_is_refused_with_its_name(method):
    """Numbers are read from texts as the command line reads them, lists from their parts."""
    fields = definitions(Run) | definitions(METHODS[method])
    for name, text in [(name, text) for name, text, owner in BAD if owner == method and name != "layers"]:
        value = tuple(text.split(",")) if typing.get_origin(fields[name].annotation) is tuple else text
        with pytest.raises(ConfigError, match=rf"^{name}\b"):
            make_run(method=method, **{name: value})


# a layer is not known to be wrong before there is a network
LAYERS = [bad for bad in BAD if bad[0] == "layers"]


@pytest.mark.parametrize(("name", "text", "method"), BAD if LONG else random.Random(0).sample(BAD, 40) + LAYERS)
def test_a_bad_value_of_a_flag_is_refused_with_its_name(name, text, method):
    said = refused(("train", "--method", method, f"{flag(name)}={text}"))
    assert flag(name) in said or name in said


def test_the_generated_input_is_much():
    assert len(BAD) + len(OTHER_COMMANDS) > 800


@pytest.mark.parametrize("command", OTHER_COMMANDS, ids=lambda c: " ".join(c))
def test_other_mistakes_on_the_command_line(command):
    assert FIXES.search(refused(command).lower())


@settings(max_examples=40 * MORE)
@given(st.sampled_from(sorted({name for name, *_ in BAD})), texts)
def test_any_text_after_a_flag_is_a_value_or_a_message(name, text):
    """Nothing is trained: an unknown data set is refused last."""
    result = CliRunner().invoke(main, ["train", "--dataset", "folder:/nowhere", f"{flag(name)}={text}"])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), (result.output, result.exception)


# ------------------------------------------------------------------------------- papermill parameters, configurations


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_every_parameter_of_every_notebook_refuses_values_of_another_kind(notebook):
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    assert known, "a chapter has parameters"
    wrong = {"str": [3, None, ["a"], True], "int": ["3", 2.5, None, True], "float": ["x", None, math.nan, [1.0], False]}
    for name, parameter in known.items():
        kind = type(__import__("ast").literal_eval(parameter["default"])).__name__
        for value in wrong.get(kind, ["x", 3]):
            with pytest.raises(SBAError) as error:
                check_parameters(notebook, {name: value})
            assert f"{notebook.name}: {name}: {value!r} is not allowed; give " in str(error.value)
    for name in (*("x" + n for n in list(known)[:3]), "", "Seed"):
        with pytest.raises(SBAError, match=r"no parameter .* its parameters cell declares"):
            check_parameters(notebook, {name: 1})


@given(st.sampled_from([True, 3, 0.5, "text", [1]]), st.booleans() | st.integers() | st.floats() | texts)
def test_a_value_of_the_kind_of_the_default_is_taken(default, value):
    as_number = type(default) is float and type(value) in (int, float) and math.isfinite(value)
    assert (unlike(default, value) == "") == ((type(default) is type(value) and value == value) or as_number) or (
        type(default) is float and type(value) is float and not math.isfinite(value)
    )


CONFIGURATIONS = [make_run(method=name).settings() for name in METHODS]


@settings(max_examples=150 * MORE)
@given(st.data())
def test_a_configuration_that_was_edited_is_read_or_refused(data):
    """What is read back is what stands there: nothing is dropped or rounded in silence."""
    values = copy.deepcopy(data.draw(st.sampled_from(CONFIGURATIONS)))
    place = data.draw(st.sampled_from([values, values["method"]]))
    name = data.draw(st.sampled_from([*place, "extra"]) | texts)
    if data.draw(st.booleans()):
        place.pop(name, None)
    else:
        place[name] = data.draw(junk)
    try:
        run = from_settings(values)
    except SBAError as error:
        assert str(error).strip() and "\n  File" not in str(error)
        return
    read = json.loads(json.dumps(run.settings()))
    for where, there in ((values, read), (values["method"], read["method"])):
        for key, value in where.items():
            if key != "method":
                assert there[key] == value or list(there[key]) == list(value), key


@settings(max_examples=30 * MORE)
@given(junk)
def test_anything_in_the_place_of_a_configuration_is_refused(value):
    with pytest.raises(ConfigError):
        from_settings(value)


PLACES = ("source", "stage", "store", "results", "readme")


def test_click_is_what_reads_flags():
    """Every option has help: a message that names a flag is of use only if the flag is explained."""
    for verb in main.commands.values():
        for option in verb.params:
            if isinstance(option, click.Option) and option.name not in PLACES:
                assert option.help, (verb.name, option.name)
