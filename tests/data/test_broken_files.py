"""Image files that cannot be read: refused by name, or left out and counted."""

import json
import shutil

import pytest
from click.testing import CliRunner
from helpers import assert_same, file_run, in_parts

from sba import load, train
from sba.cli.commands import main
from sba.core.errors import DataError
from sba.records.record import record_of

BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_text("no image"),
    "a wrong head": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + path.read_bytes()),
    "gone": lambda path: path.unlink(),
    "zeros": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100)),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_with_its_name(own, kind, workers):
    data = load("imagenette", own, side=8)
    bad = own / "imagenette2-160/train/n00000001/5.JPEG"
    BROKEN[kind](bad)
    with pytest.raises(DataError, match=rf"{bad} cannot be read \(.+\); copy it anew, remove it, or give --unreadable"):
        list(train(file_run(), data, workers=workers))


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_skipped_and_counted(own, tmp_path, kind):
    data = load("imagenette", own, side=8)
    for name in ("train/n00000001/5.JPEG", "train/n00000002/0.JPEG", "val/n00000000/1.JPEG"):
        BROKEN[kind](own / "imagenette2-160" / name)
    run = file_run(unreadable="skip")
    training = train(run, data)
    list(training)
    assert [(r.skipped, r.skipped_test, r.images) for r in training.history] == [(2, 1, 22)] * 2
    assert [e.skipped for e in record_of(training).epochs] == [2, 2]
    # counted once, stopped or not
    resumed, parts = in_parts(run, data, tmp_path / "folder", 3, lambda part: {"workers": part % 2})
    assert parts > 1
    assert_same(resumed, training)


def test_a_batch_of_which_nothing_can_be_read_is_refused(own):
    data = load("imagenette", own, side=8)
    shutil.rmtree(own / "imagenette2-160/train")
    with pytest.raises(DataError, match="all others of its batch cannot be read either; look at the disk"):
        list(train(file_run(unreadable="skip"), data))


def test_the_command_line_names_the_file(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    BROKEN["truncated"](own / "imagenette2-160/val/n00000002/2.JPEG")
    command = (
        f"train --dataset imagenette --network resnet44 --side 8 --batch-size 6 --epochs 1 --data-root {own} --quiet"
    )
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 2 and "n00000002/2.JPEG cannot be read" in result.output
    assert "Traceback" not in result.output
    result = CliRunner().invoke(main, [*command.split(), "--unreadable", "skip", "--workers", "1"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "runs/results.jsonl").read_text())
    assert record["epochs"][0]["skipped_test"] == 1 and str(own) not in json.dumps(record)
