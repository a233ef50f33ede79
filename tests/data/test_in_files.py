"""Images that stay in files: torchvision's crops, the same batches whoever reads them, exact resume, and files that are broken."""

import dataclasses
import gc
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import top_k_accuracy_score
from torchvision.transforms import v2

from sba import load, make_run, train
from sba.cli.commands import main
from sba.core.errors import ConfigError, DataError
from sba.core.rng import Step
from sba.data.datasets import in_files
from sba.data.in_files import MEAN, STD, Stream, centre_crop, random_crop
from sba.data.sources import IMAGENETTE
from sba.records.record import record_of
from sba.training.evaluation import evaluate, logits

CLASSES, EACH = 3, 8


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A root with an Imagenette of noise: 24 training images and 12 others, of several sizes and modes."""
    root = tmp_path_factory.mktemp("root")
    noise = np.random.default_rng(0)
    for split, each in (("train", EACH), ("val", 4)):
        for c, i in itertools.product(range(CLASSES), range(each)):
            folder = root / "imagenette2-160" / split / f"n{c:08}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8)
            pixels[..., c] = 255
            # ImageNet has grey images, too
            Image.fromarray(pixels).convert("L" if i == 3 else "RGB").save(folder / f"{i}.JPEG")
    return root


@pytest.fixture
def own(photographs, tmp_path):
    """A copy that may be broken."""
    shutil.copytree(photographs, tmp_path / "root")
    return tmp_path / "root"


def small(**parameters):
    return make_run(
        **{"dataset": "imagenette", "network": "resnet44", "side": 8, "batch_size": 6, "epochs": 2, **parameters}
    )


def finished(run, root, **options):
    training = train(run, data_root=root, **options)
    list(training)
    return training


def in_parts(run, data, folder):
    """Train three steps at a time, with and without a worker."""
    for part in range(20):
        calls = itertools.count()
        training = train(run, data, folder=folder, stop=lambda calls=calls: next(calls) >= 3, workers=part % 2)
        list(training)
        if training.finished:
            return training, part + 1
    raise AssertionError("the run makes no progress")


def timeless(training):
    return [dataclasses.replace(r, seconds=0.0) for r in training.history], training.objective.state_dict()


def assert_same(a, b):
    (history, state), (others, other) = timeless(a), timeless(b)
    assert history == others and all(torch.equal(x, other[name]) for name, x in state.items())


def picture(seed=0, size=(50, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


# ------------------------------------------------------------------------------------------------------------- crops


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 11])
def test_a_random_crop_is_torchvisions_given_its_seed(seed):
    before = torch.get_rng_state()
    found = random_crop(picture(), 16, seed)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(seed)
    expected = v2.Compose([v2.RandomResizedCrop(16), v2.PILToTensor()])(picture())
    assert found.dtype == torch.uint8 and torch.equal(found, expected)


def test_a_centre_crop_is_that_of_torchvisions_references():
    image = picture(size=(300, 280))
    reference = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    assert torch.equal(centre_crop(image, 224), reference(image))


def test_normalisation_is_that_of_torchvisions_weights():
    from torchvision.models import ResNet50_Weights

    published = ResNet50_Weights.IMAGENET1K_V1.transforms()
    assert (list(MEAN), list(STD)) == (published.mean, published.std)


# ------------------------------------------------------------------------------------------------------------ batches


def epoch(stream, epoch=0, views=1, start=0):
    """The batches of an epoch, in a fixed order, from one of them on."""
    rows = torch.randperm(len(stream), generator=torch.Generator().manual_seed(0)).split(6)
    supply = stream.supply()
    names = supply.plan(rows, start, Step(5, epoch=epoch), views)
    return [supply[name] for name in names[start:]], rows


@pytest.fixture(scope="session")
def stream(photographs):
    return load("imagenette", photographs, side=8).train


def test_a_batch_is_what_its_rows_say(stream):
    batches, rows = epoch(stream)
    assert [b.labels.tolist() for b in batches] == [stream.labels[r].tolist() for r in rows]
    assert all(b.crops.shape == (1, 6, 3, 8, 8) and b.crops.dtype == torch.uint8 for b in batches)
    for batch in batches:  # the channel that is full says the class
        full = batch.images.float().mean((2, 3)).argmax(1)
        grey = (batch.images[:, 0] == batch.images[:, 1]).all((1, 2))
        assert (grey | (full == batch.labels)).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(stream, workers):
    expected, _ = epoch(stream, views=2)
    found, _ = epoch(dataclasses.replace(stream, workers=workers), views=2)
    assert all(torch.equal(a.crops, b.crops) for a, b in zip(expected, found, strict=True))


def test_workers_end_with_their_training_at_once(photographs):
    """Without waiting for the garbage collector, which may be long."""
    others = {child.pid for child in multiprocessing.active_children()}
    gc.disable()
    try:
        training = finished(small(), photographs, workers=1)
        assert {child.pid for child in multiprocessing.active_children()} > others
        del training
        assert {child.pid for child in multiprocessing.active_children()} <= others
    finally:
        gc.enable()


def test_an_epoch_taken_up_in_its_middle_is_the_same(stream):
    whole, _ = epoch(stream)
    rest, _ = epoch(stream, start=2)
    assert all(torch.equal(a.crops, b.crops) for a, b in zip(whole[2:], rest, strict=True))


def test_epochs_views_and_images_have_crops_of_their_own(stream):
    (first, *_), _ = epoch(stream, views=2)
    (later, *_), _ = epoch(stream, epoch=1, views=2)
    assert not torch.equal(first.view(0), first.view(1)) and not torch.equal(first.crops, later.crops)
    one = dataclasses.replace(stream, paths=[stream.paths[0]] * 2, labels=stream.labels[:2])
    (twice,), _ = epoch(one)
    assert not torch.equal(twice.images[0], twice.images[1])


def test_batches_are_given_in_order_and_once(stream):
    supply = stream.supply()
    supply.plan(torch.arange(24).split(6), 1, Step(0), 1)
    with pytest.raises(LookupError, match="batch 2 was asked for; the next one is 1"):
        supply[2]
    assert supply[1].labels.tolist() == stream.labels[6:12].tolist()
    with pytest.raises(LookupError, match="batch 1 was asked for; the next one is 2"):
        supply[1]


def test_a_stream_leaves_the_global_generator_alone(stream):
    before = torch.get_rng_state()
    epoch(stream)
    list(stream.parts(5))
    assert torch.equal(before, torch.get_rng_state())


# ----------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "sba", "eta": 0.1, "layers": ("pool",), "folds": 2},
        {"views": 2, "cutout": 4},
        {"views": 2, "chunked": True},
    ],
    ids=["sba", "views", "chunked"],
)
def test_stopped_anywhere_and_resumed_with_workers_is_uninterrupted(photographs, tmp_path, parameters):
    run = small(**parameters)
    whole = finished(run, photographs)
    resumed, parts = in_parts(run, load("imagenette", photographs, side=8), tmp_path)
    assert parts > 1
    assert_same(resumed, whole)


def test_top_5_is_scikit_learns(photographs):
    data = load("imagenette", photographs, side=8)
    training = finished(small(epochs=1), photographs)
    # more classes than five, of which three occur
    network = torch.nn.Sequential(training.network, torch.nn.Linear(3, 9))
    found = evaluate(network, data)
    scores = logits(network, data)
    for k, error in ((1, found.error), (5, found.error_top5)):
        accuracy = top_k_accuracy_score(data.test.labels, scores.detach(), k=k, labels=range(9))
        assert error == pytest.approx(100 * (1 - accuracy))
    assert training.history[0].error_top5 == 0  # three classes
    assert record_of(training).epochs[0].error_top5 is not None


def test_digits_have_no_top_5_in_their_records(run, digits):
    training = train(run(epochs=1, batch_size=599), digits)
    list(training)
    assert {"error_top5", "skipped", "skipped_test"}.isdisjoint(record_of(training).as_json()["epochs"][0])


# ------------------------------------------------------------------------------------------------------- broken files

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
        list(train(small(), data, workers=workers))


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_skipped_and_counted(own, tmp_path, kind):
    data = load("imagenette", own, side=8)
    for name in ("train/n00000001/5.JPEG", "train/n00000002/0.JPEG", "val/n00000000/1.JPEG"):
        BROKEN[kind](own / "imagenette2-160" / name)
    run = small(unreadable="skip")
    training = train(run, data)
    list(training)
    assert [(r.skipped, r.skipped_test, r.images) for r in training.history] == [(2, 1, 22)] * 2
    assert [e.skipped for e in record_of(training).epochs] == [2, 2]
    # counted once, stopped or not
    resumed, parts = in_parts(run, data, tmp_path / "folder")
    assert parts > 1
    assert_same(resumed, training)


def test_a_batch_of_which_nothing_can_be_read_is_refused(own):
    data = load("imagenette", own, side=8)
    shutil.rmtree(own / "imagenette2-160/train")
    with pytest.raises(DataError, match="all others of its batch cannot be read either; look at the disk"):
        list(train(small(unreadable="skip"), data))


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


# -------------------------------------------------------------------------------------------------------------- lists


def test_the_fingerprint_is_that_of_names_sizes_labels_and_side(own, tmp_path):
    first = load("imagenette", own, side=8).fingerprint
    assert first != load("imagenette", own, side=16).fingerprint
    shutil.move(own, tmp_path / "elsewhere")
    assert load("imagenette", tmp_path / "elsewhere", side=8).fingerprint == first
    file = tmp_path / "elsewhere/imagenette2-160/train/n00000000/0.JPEG"
    os.truncate(file, file.stat().st_size - 1)
    assert load("imagenette", tmp_path / "elsewhere", side=8).fingerprint != first


def test_all_images_at_128_pixels_come_before_a_part_of_them(photographs, tmp_path):
    for name in ("imagenette128", "imagenette128_subset"):
        shutil.copytree(photographs / "imagenette2-160", tmp_path / name)
    shutil.rmtree(tmp_path / "imagenette128_subset" / "train" / "n00000001")
    shutil.rmtree(tmp_path / "imagenette128_subset" / "val" / "n00000001")
    assert len(load("imagenette", tmp_path, side=8).classes) == CLASSES
    shutil.rmtree(tmp_path / "imagenette128")
    assert len(load("imagenette", tmp_path, side=8).classes) == CLASSES - 1


def test_views_of_a_file_differ_without_a_flip(photographs):
    """Every view is another random crop; of images in memory the views would be equal."""
    run = small(views=2, flip=False, epochs=1)
    assert finished(run, photographs).finished
    with pytest.raises(ConfigError, match="views: the 2 of an image would be equal; give padding, flip or cutout"):
        train(make_run("digits", views=2, padding=0))


def test_images_are_held_out(photographs):
    held = load("imagenette", photographs, holdout=7, side=8)
    whole = load("imagenette", photographs, side=8)
    assert isinstance(held.test, Stream) and held.evaluated_on == "holdout"
    assert (len(held.train), len(held.test)) == (17, 7)
    assert sorted([*held.train.paths, *held.test.paths]) == sorted(whole.train.paths)
    of = dict(zip(whole.train.paths, whole.train.labels.tolist(), strict=True))
    assert [of[p] for p in held.test.paths] == held.test.labels.tolist()


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=rf"imagenette is in none of .*{IMAGENETTE[0]}.* --data-root or SBA_DATA"):
        load("imagenette", tmp_path)
    with pytest.raises(DataError, match="ImageNet asks for an account"):
        load("imagenet", tmp_path, download=True)


def test_an_empty_class_and_other_classes_are_named(own):
    folder = own / "imagenette2-160"
    shutil.move(folder / "val/n00000002", folder / "val/n00000009")
    with pytest.raises(DataError, match=r"3 classes, .*val 3 or others; make them equal"):
        in_files(folder, 8)
    (folder / "train/n00000005").mkdir()
    with pytest.raises(DataError, match=r"n00000005.*give a folder with one folder of images for each class"):
        in_files(folder, 8)


def test_what_works_in_memory_refuses_files(photographs):
    with pytest.raises(DataError, match="'imagenette' stays in its files, and this works in memory"):
        load("imagenette", photographs).resident  # noqa: B018


def test_images_with_a_side_of_their_own_cannot_be_given_another():
    with pytest.raises(ConfigError, match="side: 16 is not allowed, the images of 'digits' have their own"):
        make_run("digits", side=16)
    with pytest.raises(DataError, match="side: 16 is not allowed"):
        load("digits", side=16)


def test_data_of_another_side_is_refused(photographs):
    with pytest.raises(ConfigError, match="side: the data has images of side 16, the run says 8"):
        train(small(), load("imagenette", photographs, side=16))


def test_imagenet_lies_in_the_root_as_torchvision_leaves_it(photographs, tmp_path):
    shutil.copytree(photographs / "imagenette2-160", tmp_path / "root")
    data = load("imagenet", tmp_path / "root", side=8)
    assert (data.name, data.side, data.channels, len(data.classes)) == ("imagenet", 8, 3, CLASSES)


def test_the_subset_of_real_photographs_loads():
    root = os.environ.get("SBA_DATA", "")
    if not os.path.isdir(os.path.join(root, "imagenette128_subset")):
        pytest.skip("SBA_DATA names no folder with imagenette128_subset")
    training, test, classes = in_files(pathlib.Path(root, "imagenette128_subset"), 96)
    assert (len(training), len(test), len(classes)) == (800, 250, 10)
    part = next(test.parts(250))
    assert torch.bincount(part.labels).tolist() == [25] * 10
    # photographs have the moments of ImageNet, roughly
    scaled = (part.images.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert scaled.mean().abs() < 0.3 and 0.7 < scaled.std() < 1.3
