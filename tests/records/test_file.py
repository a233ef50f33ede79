"""Results are appended whole, never rewritten, and read back with what is wrong named."""

import json
import pathlib

import pytest
from helpers import content
from hypothesis import given
from hypothesis import strategies as st

from sba import make_run
from sba.core.errors import ResultsError
from sba.records.file import FOLDER, TornRecordWarning, append, read
from sba.records.record import identify
from sba.records.schema import RunRecord, parse

ROOT = pathlib.Path(__file__).parents[2]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "ω\n", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, min_size=1, max_size=4))
def test_what_is_appended_is_read_back(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("results") / "new" / "r.jsonl"
    for i, value in enumerate(contents):
        append(path, parse({"id": str(i), "value": value}))
    found = read(path)
    assert [r.value for r in found] == contents
    assert [(r.file, r.line) for r in found] == [("r.jsonl", i + 1) for i in range(len(contents))]


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_a_torn_last_line_is_named_and_kept_and_nothing_is_lost(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, parse({"id": "a"}))
    torn = path.read_bytes() + b'{"id":"b","err'
    path.write_bytes(torn)
    with pytest.warns(TornRecordWarning, match=rf"{path}, line 2: not a record"):
        assert [r.id for r in read(path)] == ["a"]
    assert path.read_bytes() == torn
    append(path, parse({"id": "c"}))
    assert path.read_bytes() == torn + b'\n{"id":"c"}\n'
    with pytest.warns(TornRecordWarning, match="line 2"):
        assert [(r.id, r.line) for r in read(path)] == [("a", 1), ("c", 3)]


@pytest.mark.parametrize("line", [b"[1, 2]", b"7", b'{"no": "id"}', b"\xff\xfe", b"null"])
def test_a_line_that_is_no_record_is_left_out(tmp_path, line):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + line + b'\n\n{"id":"b"}\n')
    with pytest.warns(TornRecordWarning, match="line 2"):
        assert [r.id for r in read(path)] == ["a", "b"]


def test_a_directory_in_the_place_of_the_file(tmp_path):
    with pytest.raises(ResultsError, match=rf"results: {tmp_path} cannot be written to .*give another --results"):
        append(tmp_path, parse({"id": "a"}))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResultsError, match="cannot be written to"):
        append(tmp_path / "file" / "r.jsonl", parse({"id": "a"}))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ResultsError, match=rf"results: {tmp_path / 'r.jsonl'} cannot be read"):
        read(tmp_path / "r.jsonl")


def test_a_number_that_json_lacks_is_refused_before_the_file_is_touched(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, parse({"id": "a"}))
    with pytest.raises(ResultsError, match=r"the record b cannot be written .*it holds NaN or ∞"):
        append(path, parse({"id": "b", "error": float("nan")}))
    assert path.read_bytes() == b'{"id":"a"}\n'


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_folder_is_read_in_the_order_of_names_and_copies_count_once(tmp_path):
    append(tmp_path / "b.jsonl", parse({"id": "2"}))
    append(tmp_path / "a.jsonl", parse({"id": "1"}))
    append(tmp_path / "b.jsonl", parse({"id": "1"}))
    (tmp_path / "notes.txt").write_text("no results")
    assert [(r.id, r.file) for r in read(tmp_path)] == [("1", "a.jsonl"), ("2", "b.jsonl")]
    assert read([tmp_path / "b.jsonl", tmp_path / "a.jsonl"])[0].id == "2"


def test_a_record_of_settings_that_this_version_lacks_is_left_out_by_name(tmp_path):
    record = content(make_run("digits"))
    without = {k: v for k, v in record["settings"].items() if k != "seed"}
    with pytest.raises(ResultsError, match=r"settings\.seed: Field required"):
        parse(record | {"settings": without})
    (tmp_path / "r.jsonl").write_text(json.dumps(record | {"settings": record["settings"] | {"invented": 1}}))
    with pytest.warns(TornRecordWarning, match=r"line 1: not a record \(invented: "):
        assert read(tmp_path) == []


def test_every_record_of_the_book_is_typed_and_written_again_as_it_stands():
    lines = [line for path in sorted((ROOT / FOLDER).glob("*.jsonl")) for line in path.read_text().splitlines()]
    found = read(ROOT / FOLDER)
    assert len(found) == len(lines)
    for line, record in zip(lines, found, strict=True):
        written = record.as_json()
        assert json.dumps(written, sort_keys=True) == json.dumps(json.loads(line), sort_keys=True)
        assert identify({k: v for k, v in written.items() if k != "id"}) == record.id
        assert isinstance(record, RunRecord) or record.compared.family
