"""Checkpoints are written whole or not at all, and what stands in the folder is never destroyed by a mistake."""

import dataclasses
import errno
import json
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch

from sba import make_run, train
from sba.core.errors import CheckpointError
from sba.training import checkpoint
from sba.training.checkpoint import FILE, differences
from sba.training.vote import vote_error

RUN = make_run(method="sba", eta=0.1)
STATE = {"step": 3, "tensor": torch.arange(4.0), "text": "é", "nested": {"list": [1, 2.5]}}


def test_what_is_saved_is_loaded(tmp_path):
    folder = tmp_path / "a" / "b"
    checkpoint.save(folder, RUN, "print", STATE)
    state = checkpoint.load(folder, RUN, "print")
    assert torch.equal(state.pop("tensor"), STATE["tensor"])
    assert state == {k: v for k, v in STATE.items() if k != "tensor"}
    assert [p.name for p in folder.iterdir()] == [FILE]


def test_no_checkpoint_yet(tmp_path):
    assert checkpoint.load(tmp_path, RUN, "print") is None
    assert checkpoint.load(tmp_path / "nowhere", RUN, "print") is None


def test_another_configuration_is_refused_field_by_field(tmp_path, run, small):
    list(train(run(method="sba", eta=0.1), small, folder=tmp_path))
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(CheckpointError) as caught:
        train(run(method="sba", eta=0.2, lr=0.3), small, folder=tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("holds a run of another configuration:")
    assert lines[1:3] == ["  lr: 0.05 there, 0.3 asked for", "  method.eta: 0.1 there, 0.2 asked for"]
    assert len(lines) == 4 and "--folder" in lines[3]
    assert (tmp_path / FILE).read_bytes() == before


def test_other_data_is_refused(tmp_path, run, small):
    list(train(run(), small, folder=tmp_path))
    with pytest.raises(CheckpointError, match="fingerprint small, this data has other; give another --folder"):
        train(run(), dataclasses.replace(small, fingerprint="other"), folder=tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_truncated_checkpoint_is_refused_and_left_as_it_is(tmp_path, kept):
    checkpoint.save(tmp_path, RUN, "print", STATE)
    path = tmp_path / FILE
    whole = path.read_bytes()
    torn = whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    path.write_bytes(torn)
    with pytest.raises(CheckpointError, match=rf"folder: {path} is not a checkpoint .* move it away"):
        checkpoint.load(tmp_path, RUN, "print")
    assert path.read_bytes() == torn


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.ones(2)}, {"format": checkpoint.FORMAT}])
def test_a_file_of_another_program_is_refused(tmp_path, content):
    torch.save(content, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version"):
        checkpoint.load(tmp_path, RUN, "print")


def test_another_format_is_refused(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, RUN, "print", STATE)
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version"):
        checkpoint.load(tmp_path, RUN, "print")


def test_a_file_that_would_run_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": checkpoint.FORMAT, "state": Trap()}, tmp_path / FILE, pickle_module=pickle)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path, RUN, "print")
    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """The limit on the size of files stands for it: the write fails half-way."""
    checkpoint.save(tmp_path, RUN, "print", STATE)
    before = (tmp_path / FILE).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot be written to .*free space or give another --folder"
        ) as caught:
            checkpoint.save(tmp_path, RUN, "print", {"tensor": torch.ones(2**18)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert (tmp_path / FILE).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_a_file_in_the_place_of_the_folder(tmp_path, run, small):
    place = tmp_path / "taken"
    place.write_text("mine")
    with pytest.raises(CheckpointError, match=rf"folder: {place} cannot be written to"):
        list(train(run(epochs=1), small, folder=place))
    assert place.read_text() == "mine"


def test_differences_are_listed_by_their_full_names():
    a = {"same": 1, "lr": 0.1, "method": {"name": "sba", "eta": 0.1}, "gone": 5}
    b = {"same": 1, "lr": 0.2, "method": {"name": "sba", "eta": 0.3}, "new": [1]}
    assert differences(a, b) == [("lr", 0.1, 0.2), ("method.eta", 0.1, 0.3), ("gone", 5, None), ("new", None, [1])]


def test_a_checkpoint_of_commit_45d1509_goes_on_to_the_end(tmp_path):
    """It was written in the second of two epochs, by a run that asked for a vote when the vote was a field of a run."""
    shutil.copy(Path(__file__).with_name("made_before.pt"), tmp_path / FILE)
    run = make_run("moons", method="sba", eta=0.1, folds=4, scale="running", epochs=2)
    resumed, whole = train(run, folder=tmp_path), train(run)
    assert (resumed.step, len(resumed.history), resumed.tally.counts) == (6, 1, {"cross_entropy": 2, "virtual": 1})
    for again, once in zip(resumed, whole, strict=True):
        # another processor may round otherwise than the one that wrote it
        assert again.counts == once.counts and again.terms == pytest.approx(once.terms, rel=1e-3)
        assert (again.error, again.nll) == (pytest.approx(once.error, abs=0.2), pytest.approx(once.nll, rel=1e-3))
    state = whole.objective.state_dict()
    assert all(torch.allclose(v, state[k], atol=1e-4) for k, v in resumed.objective.state_dict().items())
    assert 0 <= vote_error(resumed) <= 100
    with pytest.raises(CheckpointError, match=r"method.eta: 0.1 there, 0.2 asked for\ngive another"):
        train(dataclasses.replace(run, method=dataclasses.replace(run.method, eta=0.2)), folder=tmp_path)


def test_a_checkpoint_that_is_older_than_a_setting_goes_on_with_its_default(tmp_path, run, small):
    settings = run(epochs=1)
    first = train(settings, small, folder=tmp_path)
    list(first)
    content = torch.load(tmp_path / checkpoint.FILE, weights_only=True)
    older = json.loads(content["settings"])
    del older["side"], older["unreadable"]
    torch.save(content | {"settings": json.dumps(older)}, tmp_path / checkpoint.FILE)
    assert train(settings, small, folder=tmp_path).finished
    with pytest.raises(CheckpointError, match="unreadable: 'refuse' there, 'skip' asked for"):
        train(run(epochs=1, unreadable="skip"), small, folder=tmp_path)
