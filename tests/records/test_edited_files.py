"""Results files that were edited, torn or written by two: a message, and no other line is lost."""

import copy
import json

import hypothesis.strategies as st
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from processes import context
from strategies import MORE, junk

from sba import make_run, train
from sba.cli.commands import main
from sba.records.file import TornRecordWarning, append, read
from sba.records.record import record_of
from sba.records.schema import parse


@pytest.fixture(scope="module")
def record():
    training = train(make_run("moons", epochs=2, full_epochs=2))
    list(training)
    return record_of(training).as_json()


def paths(value, prefix=()):
    """The places of a nested record."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*prefix, key)
        if isinstance(part, dict | list):
            yield from paths(part, (*prefix, key))


def table_of(path):
    """What ``table`` says of a file: it exits with 0 or 2 and leaves the file as it is."""
    before = path.read_bytes()
    result = CliRunner().invoke(main, ["table", "--results", str(path)])
    assert path.read_bytes() == before
    assert result.exit_code in (0, 2), (result.output, result.exception)
    assert result.exit_code == 0 or "error: " in result.output
    return result.output


@settings(max_examples=100 * MORE)
@given(st.data())
@pytest.mark.filterwarnings("ignore::sba.records.file.TornRecordWarning")
def test_a_record_that_was_edited_is_a_row_or_a_message(record, tmp_path_factory, data):
    edited = copy.deepcopy(record)
    *way, last = data.draw(st.sampled_from(list(paths(record))))
    place = edited
    for key in way:
        place = place[key]
    if data.draw(st.booleans()):
        del place[last]
    else:
        place[last] = data.draw(junk)
    path = tmp_path_factory.mktemp("edited") / "r.jsonl"
    path.write_text(json.dumps(edited) + "\n" + json.dumps(record | {"id": "whole"}) + "\n")
    said = table_of(path)
    assert "whole" in said or edited["settings"] != record["settings"] or "error" in said


@settings(max_examples=100 * MORE)
@given(st.binary(max_size=60), st.floats(0, 1), st.integers(0, 200))
@pytest.mark.filterwarnings("ignore::sba.records.file.TornRecordWarning")
def test_bytes_written_into_a_results_file_cost_no_other_line(record, tmp_path_factory, written, at, over):
    path = tmp_path_factory.mktemp("bytes") / "r.jsonl"
    lines = [json.dumps(record | {"id": name}).encode() + b"\n" for name in "abc"]
    start = len(lines[0]) + int(at * (len(lines[1]) - 1))
    whole = b"".join(lines)
    path.write_bytes(whole[:start] + written + whole[start + min(over, len(lines[1]) + len(lines[0]) - start - 1) :])
    assert {"a", "c"} <= {r.id for r in read(path)}
    table_of(path)
    append(path, parse(record | {"id": "d"}))
    assert {"a", "c", "d"} <= {r.id for r in read(path)}


def test_a_line_nested_too_deeply_is_left_out(record, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("[" * 100_000 + "\n" + json.dumps(record) + "\n")
    with pytest.warns(TornRecordWarning, match="line 1"):
        assert [r.id for r in read(path)] == [record["id"]]


def write(path, name, n, record):
    for i in range(n):
        append(path, parse(record | {"id": f"{name}{i}"}))


def test_two_writers_lose_and_tear_nothing(record, tmp_path):
    path, n = tmp_path / "r.jsonl", 50 * MORE
    writers = [context().Process(target=write, args=(path, name, n, record)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert {r.id for r in read(path)} == {f"{name}{i}" for name in "ab" for i in range(n)}
    assert path.read_bytes().count(b"\n") == 2 * n
