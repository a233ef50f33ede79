"""Networks are chains that can be cut at any layer, and the ones the literature names."""

import functools

import oracles
import pytest
import torch
from torch import nn

from sba.core.errors import ConfigError
from sba.core.staged import INPUT, Staged
from sba.models.registry import NETWORKS, build, count_parameters, to_device

SIDES = {name: architecture.smallest or architecture.side for name, architecture in NETWORKS.items()} | {
    "resnet20": 32,
    "resnet44": 32,
    "resnet44_b": 32,
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def begun(name):
    """A network, and torch's generator behind it."""
    torch.manual_seed(0)
    return build(name, 10, 3, SIDES[name]), torch.get_rng_state()


def network(name):
    return begun(name)[0]


def images(name, n=2):
    return torch.randn(n, 3, SIDES[name], SIDES[name], generator=torch.Generator().manual_seed(0))


def seeded(net, *args, **parts):
    torch.manual_seed(1)  # dropout draws from the global generator
    return net(*args, **parts)


@every_network
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@torch.no_grad()
def test_staged_composition_is_bit_for_bit_at_every_stage(name, training):
    net, x = network(name).train(training), images(name)
    whole = seeded(net, x)
    for layer in (INPUT, *net.stages):
        h = seeded(net, x, until=layer)
        before = h.clone()
        # In training mode, dropout before and behind the layer must draw in the same order as in the whole network.
        assert torch.equal(net(h, after=layer), whole), layer
        assert torch.equal(h, before), f"what follows {layer} wrote into its input"


@pytest.mark.parametrize(("name", "training"), [*((name, True) for name in NETWORKS), ("digits_dropout", False)])
@torch.no_grad()
def test_shapes_of_all_layers_without_a_pass(name, training):
    net, x = network(name).train(training), images(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    shapes = {layer: net.shape(layer) for layer in (INPUT, *net.stages)}
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert {m.training for m in net.modules()} == {training}
    h = x
    for layer, stage in zip((INPUT, *net.stages), (nn.Identity(), *net), strict=True):
        h = stage(h)
        assert shapes[layer] == tuple(h.shape[1:]), layer


def test_a_shape_costs_no_memory_and_leaves_the_parameters_in_their_place():
    net = build("vgg16_512", 10, 3, 32)
    places = [p.data_ptr() for p in net.parameters()]
    seen = []

    def note(module, inputs):
        seen.append((inputs[0].device.type, module[0].weight.device.type, len(inputs[0])))

    hook = net.get_submodule("conv1_1").register_forward_pre_hook(note)
    assert net.shape("conv1_1") == (64, 32, 32)
    hook.remove()
    assert seen == [("meta", "meta", 2)]
    assert [p.data_ptr() for p in net.parameters()] == places and not any(p.is_meta for p in net.parameters())


@pytest.mark.parametrize("name", ["alexnet", "resnet44"])
def test_a_float64_copy_has_the_same_shapes(name):
    single, double = build(name, 10, 3, 32), build(name, 10, 3, 32).double()
    assert double.shapes() == single.shapes()


def test_a_network_of_ones_own_gives_shapes_where_it_knows_its_input():
    stages = [("conv1", nn.Conv2d(1, 4, 3)), ("norm", nn.BatchNorm2d(4)), ("flatten", nn.Flatten())]
    assert Staged(stages, [1, 8, 8]).shape("norm") == (4, 6, 6)
    assert Staged(stages, (1, 8, 8)).input_shape == (1, 8, 8)
    with pytest.raises(ConfigError, match=r"input_shape: None is not enough .* give Staged\(stages, \(C, H, W\)\)"):
        Staged(stages).shape("norm")
    for net in (Staged(stages), Staged(stages, (1, 8, 8))):
        with pytest.raises(ConfigError, match="there is no layer 'fc9'"):
            net.shape("fc9")


@every_network
def test_networks_of_the_table_know_their_input(name):
    side = SIDES[name]
    assert network(name).input_shape == network(name).shape(INPUT) == (3, side, side)


def test_a_network_for_images_of_any_size_knows_theirs():
    net = build("resnet44", 10, 1, 16)
    assert net.input_shape == (1, 16, 16)
    assert net.shape("conv1") == (16, 16, 16) and net.shape("pool") == (64,)


def test_after_lists_what_follows():
    net = network("digits")
    assert {*net} <= {*net.behind(INPUT)} and net.behind("fc2") == []
    assert {*net} & {*net.behind("flatten")} == {net.get_submodule("fc1"), net.get_submodule("fc2")}


@pytest.mark.parametrize(("until", "after"), [("conv1", "conv2"), (INPUT, "conv1"), ("fc1", "fc2")])
def test_a_part_that_would_run_backwards_is_refused(until, after):
    with pytest.raises(
        ConfigError, match=f"until: '{until}' comes before '{after}' in this network; give a later stage"
    ):
        network("digits")(torch.zeros(1), until=until, after=after)


def test_a_part_of_no_stages_is_its_input():
    x = images("digits")
    assert network("digits")(x, until="conv1", after="conv1") is x and network("digits")(x, until=INPUT) is x


@pytest.mark.parametrize("name", ["mlp", "digits", "alexnet", "vgg16_512", "resnet44"])
def test_two_passes_from_one_activation_have_gradients(name):
    """An in-place operation on h would break the second pass or the backward pass."""
    net, x = network(name).train(), images(name)
    for layer in net.linear_inputs:
        h = net(x, until=layer)
        loss = (net(h, after=layer) - net(h * 0.5, after=layer)).square().sum()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(net.parameters())))


def test_part_between_two_layers():
    net, x = network("digits").eval(), images("digits")
    assert torch.equal(net(net(x, until="conv1"), after="conv1", until="fc1"), net(x, until="fc1"))


@pytest.mark.parametrize(
    ("name", "count", "millions"),
    [
        ("alexnet", oracles.alexnet_parameters, 2.47),
        ("alexnet_fc", lambda c: oracles.alexnet_parameters(c, (4096, 4096)), None),
        ("vgg16", oracles.vgg16_parameters, 33.6),
        ("vgg16_512", lambda c: oracles.vgg16_parameters(c, (512, 512)), None),
        ("vgg16_linear", lambda c: oracles.vgg16_parameters(c, ()), None),
        ("vgg16_plain", lambda c: oracles.vgg16_parameters(c, beside=1), None),
        ("resnet20", lambda c: oracles.resnet_parameters(c, 20), 0.27),
        ("resnet44", lambda c: oracles.resnet_parameters(c, 44), 0.66),
        ("resnet44_b", lambda c: oracles.resnet_parameters(c, 44, projections=True), None),
    ],
)
def test_parameter_counts(name, count, millions):
    assert count_parameters(network(name)) == count(10)
    if millions:
        assert round(count(10) / 1e6, 1 if name == "vgg16" else 2) == millions


def test_parameter_count_of_100_classes():
    assert count_parameters(build("resnet44", 100, 3, 32)) == oracles.resnet_parameters(100, 44)


@pytest.mark.parametrize(
    ("name", "layers", "width"),
    [
        ("mlp", ("flatten", "fc1", "fc2"), 3),
        ("digits", ("flatten", "fc1"), 512),
        ("alexnet", ("flatten",), 256),
        ("alexnet_fc", ("flatten", "fc1", "fc2"), 256),
        ("vgg16", ("flatten", "fc1", "fc2"), 512),
        ("vgg16_512", ("flatten", "fc1", "fc2"), 512),
        ("vgg16_linear", ("flatten",), 512),
        ("vgg16_plain", ("flatten", "fc1", "fc2"), 512),
        ("resnet20", ("pool",), 64),
        ("resnet44", ("pool",), 64),
        ("resnet44_b", ("pool",), 64),
    ],
)
def test_linear_inputs_are_what_linear_layers_read(name, layers, width):
    net = network(name).eval()
    assert net.linear_inputs == layers
    assert net(images(name), until=layers[0]).shape == (2, width)
    assert net(images(name)).shape == (2, 10)


def test_a_linear_layer_at_the_start_reads_the_input():
    assert Staged([("fc1", nn.Linear(2, 3)), ("fc2", nn.Linear(3, 2))]).linear_inputs == (INPUT, "fc1")


def test_shortcut_a_takes_every_second_pixel_and_adds_empty_channels():
    block = network("resnet44").get_submodule("block2_1")
    x = torch.randn(1, 16, 4, 4)
    out = block.shortcut(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any() and not out[:, 24:].any()
    assert [type(b.shortcut) for n, b in network("resnet44").named_children() if n.startswith("block")].count(
        nn.Identity
    ) == 19


def test_residual_blocks_add_their_shortcut():
    block = network("resnet44").eval().get_submodule("block3_2")
    x = torch.randn(2, 64, 4, 4)
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    assert torch.equal(block(x), (branch + x).relu())


def test_resnet_starts_from_kaimings_scale():
    """Normal with variance 2/(9·outputs); torch's default would have variance 1/(27·inputs)."""
    weight = network("resnet44").get_submodule("block3_1").conv1.weight  # of 32 inputs and 64 outputs
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("name", "rates"), [("vgg16", [0.5, 0.5]), ("alexnet_fc", [0.5, 0.5]), ("vgg16_linear", []), ("alexnet", [])]
)
def test_dropout_of_the_heads(name, rates):
    assert [m.p for m in network(name).modules() if isinstance(m, nn.Dropout)] == rates


def test_vgg_without_batch_normalisation_has_none_and_keeps_the_variance_through_its_convolutions():
    torch.manual_seed(0)
    net, x = network("vgg16_plain"), torch.randn(16, 3, 32, 32)
    assert not [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {n for n, _ in net.named_parameters() if n.startswith("conv5_3")} == {"conv5_3.0.weight", "conv5_3.0.bias"}
    before, after = (net(x, until=layer).square().mean() for layer in ("conv1_1", "conv5_3"))
    assert 0.5 < after / before < 8


def test_channels_last_changes_the_order_of_memory_only():
    net, x = build("digits", 10, 3, 8).eval(), images("digits")
    expected = net(x)
    moved = to_device(net, "cpu", channels_last=True)
    assert moved.get_submodule("conv2")[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(moved(x.contiguous(memory_format=torch.channels_last)), expected)


def test_a_layer_that_does_not_exist_is_named_with_the_choices():
    for part in ("until", "after"):
        with pytest.raises(
            ConfigError, match=r"layers: there is no layer 'fc9'.*input, conv1, conv2, flatten, fc1, fc2"
        ):
            network("digits")(images("digits"), **{part: "fc9"})


def test_build_refuses_an_unknown_network_and_images_of_another_size():
    with pytest.raises(ConfigError, match="network: 'lenet' is not known; choose from mlp, digits"):
        build("lenet", 10, 1, 8)
    with pytest.raises(
        ConfigError, match=r"'alexnet' is made for images of 32×32 pixels, the data has 8×8; .*: digits"
    ):
        build("alexnet", 10, 1, 8)


def test_a_shape_is_found_once(monkeypatch):
    """A method may ask at every step."""
    network = build("digits", 10, 1, 8)
    first = [network.shape(layer) for layer in network.stages]
    monkeypatch.setattr(torch.func, "functional_call", None)
    assert [network.shape(layer) for layer in network.stages] == first


# --------------------------------------------------------------------------------------------------- dropout at the feature


@every_network
def test_dropout_at_the_feature_is_one_more_stage_and_changes_nothing_else(name):
    """The weights, their names and torch's generator are those of the network without; in evaluation so is every logit."""
    plain, state = begun(name)
    torch.manual_seed(0)
    dropped = build(name, 10, 3, SIDES[name], 0.5)
    assert torch.equal(state, torch.get_rng_state())
    assert list(plain.state_dict()) == list(dropped.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), dropped.parameters(), strict=True))
    assert dropped.stages == (*plain.stages[:-1], "dropout", plain.stages[-1])
    assert dropped.last_linear is dropped[-1] and dropped.shape("dropout") == (dropped.last_linear.in_features,)
    # other tests have moved the means of the one
    dropped.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(plain.eval()(images(name)), dropped.eval()(images(name)))
        h = dropped.train()(images(name).repeat(8, 1, 1, 1), until="dropout")
    assert sum(m is dropped[-2] for m in dropped.modules()) == 1 and dropped[-2].training
    kept = dropped(torch.ones(8, h.shape[1]), after=dropped.stages[-3], until="dropout")
    assert set(kept.unique().tolist()) == {0.0, 2.0}
