"""Images that stay in files: torchvision's crops, the same batches whoever reads them, exact resume."""

import dataclasses
import gc
import multiprocessing

import numpy as np
import pytest
import torch
from helpers import assert_same, file_run, in_parts, whole
from PIL import Image
from sklearn.metrics import top_k_accuracy_score
from torchvision.transforms import v2

from sba import load, train
from sba.core.rng import Step
from sba.data.in_files import MEAN, STD, centre_crop, random_crop
from sba.records.record import record_of
from sba.training.evaluation import evaluate, logits


def picture(seed=0, size=(50, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


# ---------------------------------------------------------------------------------------------------------------- crops


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


# -------------------------------------------------------------------------------------------------------------- batches


def epoch(stream, epoch=0, views=1, start=0):
    """The batches of an epoch, in a fixed order, from one of them on."""
    rows = torch.randperm(len(stream), generator=torch.Generator().manual_seed(0)).split(6)[start:]
    supply = stream.supply()
    return [supply[name] for name in supply.plan(rows, Step(5, epoch=epoch), views)], rows


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
        training = whole(file_run(), None, data_root=photographs, workers=1)
        assert {child.pid for child in multiprocessing.active_children()} > others
        del training
        assert {child.pid for child in multiprocessing.active_children()} <= others
    finally:
        gc.enable()


def test_an_epoch_taken_up_in_its_middle_is_the_same(stream):
    all_of_it, _ = epoch(stream)
    rest, _ = epoch(stream, start=2)
    assert all(torch.equal(a.crops, b.crops) for a, b in zip(all_of_it[2:], rest, strict=True))


def test_epochs_views_and_images_have_crops_of_their_own(stream):
    (first, *_), _ = epoch(stream, views=2)
    (later, *_), _ = epoch(stream, epoch=1, views=2)
    assert not torch.equal(first.view(0), first.view(1)) and not torch.equal(first.crops, later.crops)
    one = dataclasses.replace(stream, paths=[stream.paths[0]] * 2, labels=stream.labels[:2])
    (twice,), _ = epoch(one)
    assert not torch.equal(twice.images[0], twice.images[1])


def test_batches_are_given_in_order_and_once(stream):
    supply = stream.supply()
    supply.plan(torch.arange(24).split(6), Step(0), 1)
    with pytest.raises(LookupError, match="batch 1 was asked for; the next one is 0"):
        supply[1]
    assert supply[0].labels.tolist() == stream.labels[:6].tolist()
    with pytest.raises(LookupError, match="batch 0 was asked for; the next one is 1"):
        supply[0]


def test_a_stream_leaves_the_global_generator_alone(stream):
    before = torch.get_rng_state()
    epoch(stream)
    list(stream.parts(5))
    assert torch.equal(before, torch.get_rng_state())


# ------------------------------------------------------------------------------------------------------------- training


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
    run = file_run(**parameters)
    undisturbed = whole(run, None, data_root=photographs)
    resumed, parts = in_parts(
        run, load("imagenette", photographs, side=8), tmp_path, 3, lambda part: {"workers": part % 2}
    )
    assert parts > 1
    assert_same(resumed, undisturbed)


def test_top_5_is_scikit_learns(photographs):
    data = load("imagenette", photographs, side=8)
    training = whole(file_run(epochs=1), None, data_root=photographs)
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
