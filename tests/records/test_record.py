"""A record holds what a training gave, and where it comes from."""

import statistics

import pytest
import torch

from sba import make_run, train
from sba.core.errors import ResultsError
from sba.records import record as made
from sba.records.record import identified, identify, record_of


@pytest.fixture(scope="module")
def finished(small):
    """A run of seven epochs and its record."""
    training = train(make_run(epochs=7, batch_size=16, method="sba", eta=0.1, layers=("fc1",)), small)
    list(training)
    return training, record_of(training)


def test_record_holds_the_run_its_numbers_and_where_they_come_from(finished, small):
    training, record = finished
    errors = [r.error for r in training.history]
    assert record.error == sorted(errors[2:])[2] == statistics.median(errors[-5:])
    assert record.error_last == errors[-1]
    assert (record.kind, record.as_json()["schema"], record.reduced) == ("train", made.SCHEMA, True)
    assert (record.key, record.settings) == (training.run.key, training.run.settings())
    assert (record.fingerprint, record.evaluated_on) == (small.fingerprint, "test")
    assert len(record.epochs) == 7 and record.epochs[0].counts["cross_entropy"] == 6
    assert record.seconds_per_epoch == statistics.median(r.seconds for r in training.history)
    assert record.device == "cpu" and record.device_name and record.threads == torch.get_num_threads()
    assert record.versions["torch"] == torch.__version__
    assert set(record.versions) == {"python", "torch", "torchvision", "numpy"}
    assert record.source == made.source_hash()
    assert record.date.endswith("Z") and "T" in record.date


def test_the_identifier_is_a_hash_of_the_rest(finished):
    record = finished[1]
    content = {k: v for k, v in record.as_json().items() if k != "id"}
    assert record.id == identify(content) and len(record.id) == 10
    assert identify({**content, "error": 0.0}) != record.id


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


def test_a_number_that_json_lacks_is_refused_by_name(finished):
    content = {k: v for k, v in finished[1].as_json().items() if k not in ("id", "schema")}
    with pytest.raises(ResultsError, match=r"epochs\.0\.nll: Input should be a finite number"):
        identified(content | {"epochs": [content["epochs"][0] | {"nll": float("nan")}]})
