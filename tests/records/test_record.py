"""A record holds what a training gave, and where it comes from."""

import statistics

import pytest
import torch
from helpers import in_parts

from sba import make_run, train
from sba.core.errors import ResultsError
from sba.records import images
from sba.records import record as made
from sba.records.record import identified, identify, record_of
from sba.records.schema import parse
from sba.training import evaluation


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


def test_a_record_keeps_which_images_were_right_in_the_order_of_the_data(finished, small):
    training, record = finished
    right = images.right_in(record)
    classes = evaluation.logits(training.network, training.data).argmax(1)
    assert (right == (classes == small.test.labels).numpy()).all() and 0 < right.sum() < len(right)
    assert 100 * (1 - right.mean()) == pytest.approx(record.error_last, abs=1e-9)
    assert training.network.training
    assert images.right_in(parse({k: v for k, v in record.as_json().items() if k != "right"})) is None


def test_which_images_were_right_is_the_same_after_a_resume_and_no_part_of_the_key(finished, small, tmp_path):
    training, record = finished
    again, parts = in_parts(training.run, small, tmp_path, 5)
    assert parts > 1 and record_of(again).right == record.right
    assert "right" not in training.run.settings()


def test_of_images_that_could_not_be_read_nothing_is_kept(finished, monkeypatch):
    monkeypatch.setattr(made, "scored", lambda *given: (*evaluation.scored(*given)[:2], 1))
    assert record_of(finished[0]).right is None


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
