"""Checkpoints under a URL: brought, sent, and forgotten when a record is safe."""

import tempfile
from pathlib import Path

import fsspec
import pytest
from tiny_study import CELLS, store, stored, swept

from sba.core.errors import CheckpointError, ConfigError
from sba.studies.kept import NODE, Kept, place
from sba.training import loop
from sba.training.checkpoint import FILE


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A file system in memory, and an empty folder for what lies on this machine for a while."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
    Path(tempfile.gettempdir()).mkdir()
    system = fsspec.filesystem("memory")
    system.makedirs("/runs", exist_ok=True)
    yield system
    system.rm("/runs", recursive=True)


def interrupted(own, steps=13):
    calls = []
    return swept(own, CELLS[:1], stop=lambda: calls.append(0) or len(calls) > steps)


@pytest.mark.parametrize("url", ["memory://runs", "memory://runs/"])
def test_a_run_goes_on_from_a_url_bit_for_bit_and_leaves_nothing_there_or_here(tmp_path, monkeypatch, elsewhere, url):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    swept(store(tmp_path / "a"), CELLS[:1])
    own = store(tmp_path / "b", checkpoints=url)
    assert interrupted(own)[-1].kind == "stopped"
    title = CELLS[0].run.title
    assert elsewhere.find("/runs") == [f"/runs/{title}/{FILE}"]
    assert not list(tmp_path.rglob(FILE)) and not list((tmp_path / "here").glob("sba-*"))
    events = swept(own, CELLS[:1])
    assert events[0].kind == "started" and events[0].epoch > 0 and events[-1].kind == "done"
    assert not elsewhere.find("/runs") and stored(tmp_path / "a") == stored(tmp_path / "b")


def test_what_the_url_does_is_a_failure_with_its_name(tmp_path, monkeypatch, elsewhere):
    def broken(*_, **__):
        raise PermissionError("no")

    monkeypatch.setattr(elsewhere.__class__, "put_file", broken)
    event = interrupted(store(tmp_path, checkpoints="memory://runs"))[-1]
    assert (
        event.kind == "failed" and f"checkpoints: /runs/{CELLS[0].run.title}/{FILE} cannot be used (no)" in event.text
    )


def test_a_folder_is_used_as_it_is(tmp_path):
    own = store(tmp_path / "store", checkpoints=str(tmp_path / "shared"))
    interrupted(own)
    assert (tmp_path / "shared" / CELLS[0].run.title / FILE).exists()
    assert own.state(CELLS[0], "", False)[0] == "checkpoint"
    assert Kept(f"file://{tmp_path}", "t").folder == tmp_path / "t"


def test_lost_with_the_node_nothing_of_a_finished_run_is_left_there(tmp_path, elsewhere):
    own = store(tmp_path / "store", checkpoints=NODE)
    interrupted(own)
    assert list((tmp_path / "here").rglob(FILE))
    swept(own, CELLS[:1])
    assert not list(tmp_path.rglob(FILE)) and len(stored(tmp_path / "store")) == 1


def test_a_url_of_no_kind_is_refused():
    with pytest.raises(ConfigError, match=r"checkpoints: 's9://x' cannot be used .*; give a folder, a URL or 'node'"):
        place("s9://x")
    with pytest.raises(CheckpointError, match="give other --checkpoints"):
        Kept("memory://runs", "t").asked(lambda: 1 / 0)
