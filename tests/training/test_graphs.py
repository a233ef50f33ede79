"""Captured steps do what steps do: the branch of a step decides all but data and draws, and draws reach each replay.

On a processor a stand-in takes the place of the capture: it does the captured function anew at each replay. The real thing is
tested where there is a GPU.
"""

import contextlib
import dataclasses
import math

import pytest
import torch
from helpers import ON_THE_DATA, deep_network, outcome, same, scene, settings_of, whole

import sba.training.graphs
from sba import METHODS, train
from sba.core.errors import ConfigError
from sba.core.rng import Source, Step
from sba.methods import Method
from sba.training.graphs import WARM_STEPS, Graphs, Handing, Noting
from sba.training.setup import captured

BRANCHED = {name for name, cls in METHODS.items() if cls.branch is not Method.branch}
SETTINGS = {
    **{name: settings_of(name) for name in sorted(BRANCHED)},
    "sba, drawn": {"method": "sba", "eta": 0.5},
    "sba, by epochs": {"method": "sba", "eta": 0.5, "schedule": "epoch"},
    "sba, running scale": {"method": "sba", "eta": 0.5, "scale": "running"},
    "sba, cutout": {"method": "sba", "eta": 0.5, "cutout": 4},
    "implicit, drawn": {"method": "implicit-sba", "eta": 0.5},
    "cutout": ON_THE_DATA["cutout"],
    "ba": ON_THE_DATA["ba"],
    "latent-ba": ON_THE_DATA["latent-ba"],
}
"""Runs whose steps can be captured."""
captured_runs = pytest.mark.parametrize("name", SETTINGS)


def test_the_methods_whose_steps_can_be_captured():
    """The rest takes a number of the host's into each step: a share λ, an assignment, a progress."""
    assert {"erm", "sba", "implicit-sba", "bamboo", "r-drop", "label-smoothing"} == BRANCHED


class First(Source):
    """Gives every step the random tensors of the first."""

    def generator(self, now, purpose, device):
        return super().generator(Step(0), purpose, device)

    def seed_layers(self, now):
        super().seed_layers(Step(0))


@pytest.mark.parametrize("name", ["erm", "sba", "sba, drawn", "implicit, drawn", "bamboo"])
def test_steps_of_one_branch_differ_in_their_random_tensors_alone(run, name):
    method = run(**SETTINGS[name]).method
    found = {}
    for step in range(12):
        network, x, y = scene()
        now = Step(3, step, step // 5, step / 12)
        redrawn = dataclasses.replace(now, source=First())
        redrawn.seed_layers()
        terms = method.terms(network, x, y, redrawn, method.memory(network))
        found.setdefault(method.branch(network, now), []).append(terms)
    assert {"sba, drawn": 3, "implicit, drawn": 2}.get(name, 1) <= len(found)
    for alike in found.values():
        assert all(same(alike[0], terms) for terms in alike)
    firsts = [{k: v.item() for k, v in alike[0].items()} for alike in found.values()]
    assert all(a != b for i, a in enumerate(firsts) for b in firsts[:i])


def test_streams_are_handed_out_in_order_to_whom_they_belong():
    a, b = torch.Generator(), torch.Generator()
    now = Step(0, 5, source=Handing([(("crop", 0), a), (("crop", 1), b)]))
    assert now.generator("crop") is a and dataclasses.replace(now, view=1).generator("crop") is b
    with pytest.raises(
        RuntimeError, match="asked for the random stream 'flip' of view 0 where an equal one asked for None"
    ):
        now.generator("flip")
    other = Step(0, 5, source=Handing([(("crop", 0), a)]))
    with pytest.raises(RuntimeError, match=r"'crop' of view 1 where an equal one asked for \('crop', 0\)"):
        dataclasses.replace(other, view=1).generator("crop")


def test_a_step_whose_streams_are_noted_is_the_step_itself():
    source = Noting()
    now, noted = Step(4, 7, 1, 0.5), Step(4, 7, 1, 0.5, source=source)
    assert now == noted and hash(now) == hash(noted)
    draws = [torch.rand(3, generator=step.generator("crop")) for step in (now, noted)]
    assert torch.equal(*draws) and noted.uniform("layer") == now.uniform("layer")
    dataclasses.replace(noted, view=1).generator("flip")
    assert source.asked == [("crop", 0), ("flip", 1)]


def test_augmented_steps_with_an_orthogonal_basis_are_not_captured(run):
    network, _, _ = scene()
    steps = [Step(0, step) for step in range(20)]

    def branches(**options):
        method = run(method="sba", **options).method
        return {method.branch(network, now) for now in steps}

    assert branches(basis="orthogonal") == {None, "plain"}
    assert branches(basis="orthogonal", gaussian_share=0.0) == branches() > {"plain"}


def test_captured_steps_without_a_gpu_are_refused_only_if_they_are_asked_for(run, small):
    with pytest.raises(ConfigError, match="graphs: capturing steps needs a GPU, not the device 'cpu'; leave it out"):
        train(run(), small, graphs=True)
    assert train(run(), small).graphs is None


@pytest.mark.parametrize(
    ("parameters", "processes", "reason"),
    [
        ({}, 1, ""),
        ({}, 2, "is for one process, not 2"),
        ({"views": 2, "padding": 1, "chunked": True}, 1, "copies that pass one after the other"),
        ({"method": "sba", "update": "sequential_fresh"}, 1, "update 'sequential_fresh'"),
        ({"method": "sba", "update": "sequential_stale"}, 1, "update 'sequential_stale'"),
    ],
)
def test_a_gpu_captures_steps_of_one_process_that_go_back_once(monkeypatch, run, small, parameters, processes, reason):
    monkeypatch.setattr("sba.core.ranks.world", lambda: processes)
    given = run(**parameters), small, torch.device("cuda")
    assert captured(*given, None) == (reason == "") and not captured(*given, False)
    with (
        pytest.raises(ConfigError, match=f"graphs: capturing steps .*{reason}") if reason else contextlib.nullcontext()
    ):
        assert captured(*given, True)


# ------------------------------------------------------------------------------------------------- with a stand-in


class Again:
    """In place of a graph: does the function again, and writes the terms where a graph would."""

    def __init__(self, step):
        self.step, self.terms, self.replays = step, {}, 0

    def replay(self):
        self.replays += 1
        for name, term in self.step().items():
            self.terms.setdefault(name, torch.empty_like(term)).data.copy_(term.detach())


@pytest.fixture
def stand_in(monkeypatch):
    """Let trainings capture on a processor; what was captured is listed."""
    made = []

    def capture(step, generators, pool, stream):
        made.append(Again(step))
        return made[-1], made[-1].terms

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            pass

    monkeypatch.setattr(sba.training.graphs, "capture", capture)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr("sba.training.loop.captured", lambda run, data, device, wanted: wanted is not False)
    return made


def captured_outcome(run, data):
    training = train(run, data, graphs=True)
    records = [(r.terms, r.counts, r.error, r.nll) for r in training]
    return records, training


@pytest.mark.usefixtures("deep")
@captured_runs
def test_captured_steps_are_steps_bit_for_bit(stand_in, run, small, name):
    parameters = SETTINGS[name] | {"epochs": 6, "milestones": (3,)}
    usual = train(run(**parameters), small, graphs=False)
    expected = [(r.terms, r.counts, r.error, r.nll) for r in usual]
    records, training = captured_outcome(run(**parameters), small)
    assert records == expected and same(training.objective.state_dict(), usual.objective.state_dict())
    assert sum(graph.replays for graph in stand_in) >= 12


@pytest.mark.usefixtures("deep")
def test_one_graph_for_each_branch_and_rate(stand_in, run, small):
    _, training = captured_outcome(run(method="sba", eta=0.5, epochs=6, milestones=(3,)), small)
    layers = set(training.network.linear_inputs)
    assert set(training.graphs.captured) == {"plain", *layers} and set(training.graphs.asked) == {"plain", *layers}
    assert len(stand_in) <= 2 * len(training.graphs.captured)
    assert sum(graph.replays for graph in stand_in) == training.step - WARM_STEPS * (1 + len(layers))


def test_steps_without_a_branch_are_never_captured(stand_in, run, small):
    expected = outcome(run(method="mixup"), small)
    records, training = captured_outcome(run(method="mixup"), small)
    assert not stand_in and [r[0] for r in records] == [r[0] for r in expected[0]]
    assert same(training.objective.state_dict(), expected[1])


@pytest.mark.usefixtures("deep")
def test_a_branch_that_cannot_be_captured_is_done_as_usual(monkeypatch, stand_in, run, small):
    """One warning, no second try at another learning rate, and the numbers of ordinary steps."""
    settings = run(method="sba", eta=0.5, epochs=6, milestones=(3,))
    usual = whole(settings, small, graphs=False)
    capture, tried = sba.training.graphs.capture, []

    def failing_first(*arguments):
        tried.append(arguments)
        if len(tried) == 1:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return capture(*arguments)

    monkeypatch.setattr(sba.training.graphs, "capture", failing_first)
    with pytest.warns(UserWarning, match=r"graphs: .* not be captured \(operation .* is capturing\); such") as warned:
        training = whole(settings, small, graphs=True)
    assert [r.terms for r in training.history] == [r.terms for r in usual.history]
    assert same(training.objective.state_dict(), usual.objective.state_dict())
    assert len(warned) == len(training.graphs.failed) == 1
    assert training.graphs.captured and not training.graphs.failed & set(training.graphs.captured)


@pytest.mark.usefixtures("deep")
def test_a_stopped_run_goes_on_with_captured_steps(stand_in, run, small, tmp_path):
    settings = run(method="sba", eta=0.5, epochs=4)
    expected, whole = captured_outcome(settings, small)
    part = train(settings, small, graphs=True, folder=tmp_path)
    part.stop = lambda: part.step >= 15
    list(part)
    rest = train(settings, small, graphs=True, folder=tmp_path)
    assert [(r.terms, r.counts, r.error, r.nll) for r in rest] == expected
    assert same(rest.objective.state_dict(), whole.objective.state_dict())


# ---------------------------------------------------------------------------------------------------- the real thing


@pytest.mark.gpu
@pytest.mark.usefixtures("deep")
@captured_runs
def test_captured_steps_are_steps_on_a_gpu(run, small, name):
    """The same kernels on the same draws; sums that hardware orders by chance may differ in their last digits."""
    parameters = SETTINGS[name] | {"epochs": 6, "milestones": (3,)}
    usual = train(run(**parameters), small, device="cuda", graphs=False)
    expected = [r.terms for r in usual]
    training = train(run(**parameters), small, device="cuda", graphs=True)
    found = [r.terms for r in training]
    assert training.graphs.captured
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        assert all(math.isclose(a[k], b[k], rel_tol=1e-4, abs_tol=1e-6) for k in a), (expected, found)
    for a, b in zip(usual.network.parameters(), training.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
def test_a_captured_step_draws_anew(run, small):
    """Two replays on the same rows and weights differ: their seeds are not those of the capture."""
    training = train(run(padding=1, flip=True, lr=1e-12, epochs=3), small, device="cuda", graphs=True)
    losses = [r.terms["cross_entropy"] for r in training]
    assert len(set(losses)) == 3


@pytest.mark.gpu
@pytest.mark.usefixtures("deep")
def test_a_capture_that_fails_on_a_gpu_ends_no_run(monkeypatch, run, small):
    """The network's dropout draws from torch's own generator, which a broken capture must not leave unusable."""
    terms = METHODS["erm"].terms
    monkeypatch.setattr(
        METHODS["erm"], "terms", lambda self, net, x, *rest: x.sum().item() and terms(self, net, x, *rest)
    )
    with pytest.warns(UserWarning, match="graphs: a step could not be captured"):
        training = whole(run(epochs=2), small, device="cuda", graphs=True)
    assert training.finished and not training.graphs.captured


@pytest.mark.gpu
def test_the_stream_of_graphs_is_not_the_default_one():
    graphs = Graphs(lambda rows, now: {}, torch.device("cuda"))
    with graphs.running(0.1):
        assert torch.cuda.current_stream() == graphs.stream != torch.cuda.default_stream()


def test_the_deep_network_has_layers_to_choose_from():
    assert len(deep_network().linear_inputs) >= 2
