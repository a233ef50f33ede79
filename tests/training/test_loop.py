"""Training: randomness, records, and errors before anything is lost."""

import dataclasses
import json

import oracles
import pytest
import torch
from helpers import assert_same, whole

from sba import SBAError, Scheduler, evaluate, make_run, train
from sba.core.errors import ConfigError
from sba.core.rng import Step, fold_in
from sba.data.in_memory import Split
from sba.models.registry import build
from sba.training.loop import Diverged
from sba.training.setup import Objective, autotuned

# ----------------------------------------------------------------------------------------------------------- randomness


def test_torchs_own_generator_is_left_alone(run, small, deep):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert len(list(train(run(method="sba", omega=0.0), small))) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_depends_on_torchs_own_generator(run, small, deep):
    settings = run(method="sba", omega=0.5)
    torch.manual_seed(0)
    first = train(settings, small)
    for _ in first:
        torch.manual_seed(99)
    torch.manual_seed(1)
    assert_same(first, whole(settings, small))


def test_layers_draw_from_another_seed_at_every_step(run, small):
    """Else dropout would delete the same features throughout."""
    training = train(run(), small)
    seeds = []
    training.network.register_forward_pre_hook(lambda module, args: seeds.append(torch.initial_seed()))
    list(training)
    assert len(set(seeds[:6])) == 6  # evaluation comes after them


def test_the_seed_decides_weights_order_and_draws(run, small):
    a, b = (train(run(seed=seed), small) for seed in (0, 1))
    assert not torch.equal(a.network.fc1[0].weight, b.network.fc1[0].weight)
    list(a)
    list(b)
    assert a.history[0].terms != b.history[0].terms


def test_every_epoch_sees_every_image_at_most_once_in_a_new_order(run, small):
    """100 images give 6 batches of 16; the 4 left over are others each time."""
    numbered = dataclasses.replace(small, train=Split(small.train.images, torch.arange(100)), classes=tuple(range(100)))
    training = train(run(), numbered)
    seen = []
    forward = training.objective.forward
    training.objective.forward = lambda x, y, now: (seen.append((now.epoch, y)), forward(x, y, now))[1]
    list(training)
    epochs = [torch.cat([y for e, y in seen if e == epoch]).tolist() for epoch in (0, 1)]
    assert [len(set(rows)) for rows in epochs] == [96, 96]
    assert epochs[0] != epochs[1] and set(epochs[0]) != set(epochs[1])
    order = torch.randperm(100, generator=torch.Generator().manual_seed(fold_in(0, "order", 1)))
    assert epochs[1] == order[:96].tolist()


# -------------------------------------------------------------------------------------------------------------- records


def test_records_say_what_happened(run, small):
    settings = run(method="sba", epochs=4, milestones=(2,), lr=0.1, folds=4)
    training = train(settings, small)
    records = list(training)
    states = Scheduler(settings.method.omega).stream(0, 24).reshape(4, 6)
    assert [r.epoch for r in records] == [1, 2, 3, 4]
    assert [r.lr for r in records] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert all(r.images == 96 and r.seconds > 0 for r in records)
    assert [r.counts["cross_entropy"] for r in records] == [6] * 4
    assert [r.counts.get("virtual", 0) for r in records] == states.sum(1).tolist()
    assert records == training.history
    json.dumps([dataclasses.asdict(r) for r in records], allow_nan=False)


def test_terms_are_means_over_the_steps_that_had_them(run, small):
    training = train(run(method="sba", epochs=1, eta=0.5, folds=4), small)
    steps = []
    forward = training.objective.forward

    def spy(x, y, now):
        terms = forward(x, y, now)
        steps.append({name: t.item() for name, t in terms.items()})
        return terms

    training.objective.forward = spy
    (record,) = training
    assert 0 < record.counts["virtual"] < 6
    for name, value in record.terms.items():
        values = [s[name] for s in steps if name in s]
        assert value == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_training_learns_the_digits(digits):
    *_, last = train(make_run(epochs=3), digits)
    assert last.error < 15


def test_evaluation_against_the_loop(small):
    network = build("digits", 10, 1, 8)
    network(torch.randn(32, 1, 8, 8))  # moves the running statistics away from their start
    result = evaluate(network, small)
    assert network.training
    error, nll = oracles.evaluation(network.eval(), small.test.images, small.test.labels, small.mean, small.std)
    assert (result.error, result.nll, result.n) == (pytest.approx(error), pytest.approx(nll, rel=1e-5), 60)
    evaluate(network, small)
    assert not network.training


def test_the_record_is_of_the_network_after_the_epoch(run, small):
    training = train(run(epochs=1), small)
    (record,) = training
    result = evaluate(training.network, small)
    assert (record.error, record.nll) == (result.error, result.nll)


@pytest.mark.parametrize("scale", ["batch", "running"])
def test_objective_gives_the_terms_of_its_method_with_its_memory(scale):
    method = make_run(method="sba", omega=0.0, eta=1.0, scale=scale).method
    objective = Objective(build("mlp", 2, 2, 1), method)
    x, y = torch.randn(4, 2, 1, 1), torch.tensor([0, 1, 0, 1])
    memory = method.memory(objective.network)
    terms, expected = objective(x, y, Step(0)), method.terms(objective.network, x, y, Step(0), memory)
    assert list(terms) == ["cross_entropy", "virtual"] and all(t.requires_grad for t in terms.values())
    assert all(torch.equal(terms[name], expected[name]) for name in terms)
    names = {name.split(".")[0] for name in objective.state_dict()}
    assert names == ({"network"} if scale == "batch" else {"network", "memory"})


def test_one_step_goes_down_the_sum_of_the_terms(run, small):
    """Plain gradient descent with a momentum of zero, by hand."""
    settings = run(method="sba", omega=0.0, eta=1.0, momentum=0.0, weight_decay=0.0, lr=0.1, padding=0)
    training, twin = train(settings, small), train(settings, small)
    training.run_step(torch.arange(16))
    x = settings.augmentation(small.train.images[:16], small.mean, small.std, Step(0))
    twin.objective.train()
    terms = twin.objective(x, small.train.labels[:16], Step(0))
    gradients = torch.autograd.grad(sum(terms.values()), list(twin.network.parameters()))
    assert set(training.tally.sums) == set(terms) and not any(t.requires_grad for t in training.tally.sums.values())
    for p, q, g in zip(training.network.parameters(), twin.network.parameters(), gradients, strict=True):
        torch.testing.assert_close(p, q - 0.1 * g)


@pytest.mark.parametrize("bound", ["clip", "truncate"])
def test_bf16_autocast_stays_finite(run, small, bound):
    training = train(run(method="sba", amp="bf16", omega=0.0, eta=1.0, bound=bound), small)
    assert len(list(training)) == 2  # a loss that is not finite would have raised
    plain = train(run(method="sba", amp="none", omega=0.0, eta=1.0, bound=bound), small)
    list(plain)
    assert training.history[0].terms != plain.history[0].terms
    assert training.history[0].terms["cross_entropy"] == pytest.approx(
        plain.history[0].terms["cross_entropy"], rel=0.05
    )
    assert {p.dtype for p in training.network.parameters()} == {torch.float32}


def test_channels_last_changes_rounding_only(run, small):
    (a,), (b,) = (list(train(run(epochs=1, channels_last=c), small)) for c in (True, False))
    assert a.terms["cross_entropy"] == pytest.approx(b.terms["cross_entropy"], rel=1e-4)


# --------------------------------------------------------------------------------------------------------------- errors


def test_batch_larger_than_the_data(small):
    with pytest.raises(ConfigError, match="batch_size: 101 exceeds the 100 training images; give fewer"):
        train(make_run(batch_size=101), small)


def test_network_for_images_of_another_size(small):
    with pytest.raises(ConfigError, match="'alexnet' is made for images of 32×32 pixels, the data has 8×8"):
        train(make_run(network="alexnet", batch_size=16), small)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu(small):
    with pytest.raises(ConfigError, match=r"device: 'cuda' cannot be used \(.*\); give --device cpu"):
        train(make_run(), small, device="cuda")


def test_unknown_device(small):
    with pytest.raises(ConfigError, match="device: 'gpu' cannot be used"):
        train(make_run(), small, device="gpu")


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(run, small, tmp_path):
    training = train(run(lr=1e8), small, folder=tmp_path)
    with pytest.raises(
        Diverged, match=r"lr: the loss is not finite in epoch 1, step 6 .*; give a lower --lr"
    ) as caught:
        list(training)
    assert isinstance(caught.value, SBAError)
    assert not training.history and not list(tmp_path.iterdir())


def test_a_finite_loss_with_a_useless_evaluation_diverged_too(run, small):
    """Else the whole run could be trained and its record refused at the end, because JSON holds no NaN."""
    training = train(run(epochs=1), small)
    training.network.conv1[1].running_var.fill_(float("nan"))
    with pytest.raises(Diverged, match="test nll nan"):
        list(training)


def test_wrong_options_are_refused_by_name(small):
    with pytest.raises(ConfigError, match=r"buget: train\(\) has no such option; did you mean 'budget'"):
        train(make_run(), small, buget=3)


def test_data_that_is_not_what_the_run_says_is_refused(run, small):
    with pytest.raises(ConfigError, match="data: dataset is 'other', the run asks for 'digits'; give load"):
        train(run(), dataclasses.replace(small, name="other"))
    with pytest.raises(ConfigError, match="data: holdout is 60, the run asks for 0; give load"):
        train(run(), dataclasses.replace(small, evaluated_on="holdout"))
    with pytest.raises(ConfigError, match="data: holdout is 60, the run asks for 50; give load"):
        train(run(holdout=50), dataclasses.replace(small, evaluated_on="holdout"))


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_evaluation_has_the_precision_of_the_run(run, small, amp):
    training = train(run(amp=amp), small)
    *_, last = training
    values = {}
    for precision in ("none", "bf16"):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            values[precision] = evaluate(training.network, small).nll
    assert last.nll == values.pop(amp) and last.nll not in values.values()


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [("cuda", "", True), ("cuda", "of cuDNN", False), ("cuda", "of torch", False), ("cpu", "", False)],
)
def test_kernels_are_timed_on_a_gpu_alone_and_not_if_they_must_be_deterministic(monkeypatch, device, asked, expected):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", asked == "of cuDNN")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: asked == "of torch")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    with autotuned(torch.device(device)):
        assert torch.backends.cudnn.benchmark is expected
    assert torch.backends.cudnn.benchmark is False
