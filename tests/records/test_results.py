"""Results are appended whole, never rewritten, and read back with what is wrong named."""

import json
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sba import train
from sba.core.errors import ResultsError
from sba.records import record as made
from sba.records.file import TornRecordWarning, append, load, read
from sba.records.record import identify, record_of


@pytest.fixture(scope="module")
def finished(small):
    """A run of seven epochs and its record."""
    from sba import make_run

    training = train(make_run(epochs=7, batch_size=16, method="sba", eta=0.1, layers=("fc1",)), small)
    list(training)
    return training, record_of(training)


def test_record_holds_the_run_its_numbers_and_where_they_come_from(finished, small):
    training, record = finished
    errors = [r.error for r in training.history]
    assert record["error"] == sorted(errors[2:])[2] == statistics.median(errors[-5:])
    assert record["error_last"] == errors[-1]
    assert (record["kind"], record["schema"], record["reduced"]) == ("train", made.SCHEMA, True)
    assert (record["key"], record["settings"]) == (training.run.key, training.run.settings())
    assert (record["fingerprint"], record["evaluated_on"]) == (small.fingerprint, "test")
    assert len(record["epochs"]) == 7 and record["epochs"][0]["counts"]["cross_entropy"] == 6
    assert record["seconds_per_epoch"] == statistics.median(r.seconds for r in training.history)
    assert record["device"] == "cpu" and record["device_name"] and record["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["versions"]) == {"python", "torch", "torchvision", "numpy"}
    assert record["source"] == made.source_hash()
    assert record["date"].endswith("Z") and "T" in record["date"]


def test_the_identifier_is_a_hash_of_the_rest(finished):
    record = finished[1]
    content = {k: v for k, v in record.items() if k != "id"}
    assert record["id"] == identify(content) and len(record["id"]) == 10
    assert identify({**content, "error": 0.0}) != record["id"]


def test_an_unfinished_run_has_no_record(run, small):
    with pytest.raises(ResultsError, match="epochs: 0 of 2 are done; finish the run"):
        record_of(train(run(), small))


def test_source_hash_sees_every_change(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "new.py").write_text("x = 1")
    monkeypatch.setattr(made, "SOURCES", tmp_path)
    first = made.source_hash()
    (tmp_path / "methods" / "new.py").write_text("x = 2")
    second = made.source_hash()
    (tmp_path / "methods" / "new.py").rename(tmp_path / "methods" / "other.py")
    assert len({first, second, made.source_hash()}) == 3


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
        append(path, {"id": str(i), "value": value})
    found = read(path)
    assert [r["value"] for r in found] == contents
    assert [(r["file"], r["line"]) for r in found] == [("r.jsonl", i + 1) for i in range(len(contents))]


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_a_torn_last_line_is_named_and_kept_and_nothing_is_lost(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, {"id": "a"})
    torn = path.read_bytes() + b'{"id":"b","err'
    path.write_bytes(torn)
    with pytest.warns(TornRecordWarning, match=rf"{path}, line 2: not a record"):
        assert [r["id"] for r in read(path)] == ["a"]
    assert path.read_bytes() == torn
    append(path, {"id": "c"})
    assert path.read_bytes() == torn + b'\n{"id":"c"}\n'
    with pytest.warns(TornRecordWarning, match="line 2"):
        assert [(r["id"], r["line"]) for r in read(path)] == [("a", 1), ("c", 3)]


@pytest.mark.parametrize("line", [b"[1, 2]", b"7", b'{"no": "id"}', b"\xff\xfe", b"null"])
def test_a_line_that_is_no_record_is_left_out(tmp_path, line):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + line + b'\n\n{"id":"b"}\n')
    with pytest.warns(TornRecordWarning, match="line 2"):
        assert [r["id"] for r in read(path)] == ["a", "b"]


def test_a_directory_in_the_place_of_the_file(tmp_path):
    with pytest.raises(ResultsError, match=rf"results: {tmp_path} cannot be written to .*give another --results"):
        append(tmp_path, {"id": "a"})
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResultsError, match="cannot be written to"):
        append(tmp_path / "file" / "r.jsonl", {"id": "a"})
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ResultsError, match=rf"results: {tmp_path / 'r.jsonl'} cannot be read"):
        read(tmp_path / "r.jsonl")


def test_a_number_that_json_lacks_is_refused_before_the_file_is_touched(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, {"id": "a"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(path, {"id": "b", "error": float("nan")})
    assert path.read_bytes() == b'{"id":"a"}\n'


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_folder_is_read_in_the_order_of_names_and_copies_count_once(tmp_path):
    append(tmp_path / "b.jsonl", {"id": "2"})
    append(tmp_path / "a.jsonl", {"id": "1"})
    append(tmp_path / "b.jsonl", {"id": "1"})
    (tmp_path / "notes.txt").write_text("no results")
    assert [(r["id"], r["file"]) for r in read(tmp_path)] == [("1", "a.jsonl"), ("2", "b.jsonl")]
    assert read([tmp_path / "b.jsonl", tmp_path / "a.jsonl"])[0]["id"] == "2"


def test_the_data_frame_has_a_row_for_each_training(tmp_path, finished):
    _training, record = finished
    append(tmp_path / "r.jsonl", record)
    append(tmp_path / "r.jsonl", {"id": "bench", "kind": "note"})
    frame = load(tmp_path)
    (row,) = frame.to_dict("records")
    assert (row["method"], row["method.eta"], row["network"], row["n_epochs"]) == ("sba", 0.1, "digits", 7)
    assert row["error"] == record["error"] and row["method.layers"] == ["fc1"]
    assert len(row["epochs"]) == 7 and json.dumps(row["epochs"]) == json.dumps(record["epochs"])
