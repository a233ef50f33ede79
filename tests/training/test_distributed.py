"""Two processes on one machine, joined by gloo: what they share, what they write, and that they can be stopped and killed."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import ON_THE_DATA, settings_of
from processes import FORKED, RANKS, together
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import sba
from sba import METHODS
from sba.cli.commands import train_once
from sba.core import ranks
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.core.scheduler import Scheduler
from sba.core.updates import joint
from sba.methods.kmixup import pairs, shrinkage
from sba.methods.mixup import beta
from sba.training import distributed, loop
from sba.training.machine import Machine
from sba.training.run import make_run

every_run = pytest.mark.parametrize("name", [*METHODS, *ON_THE_DATA])


class Draws(list):
    """The draws that decide what a step does, of every step while it is listened to."""

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for owner, name in ((Step, "uniform"), (Step, "index"), (Scheduler, "state")):
            self.patch.setattr(owner, name, self.noted(getattr(owner, name)))
        return self

    def noted(self, original):
        def draw(*arguments):
            value = original(*arguments)
            self.append((original.__name__, value))
            return value

        return draw

    def __exit__(self, *error):
        self.patch.undo()


def run_of(name, **parameters):
    given = {"epochs": 7, "batch_size": 16, "milestones": (3,)} | settings_of(name)
    # λ(t) is to be 0 now and 1 then
    fair = {"omega": 1.0} if "omega" in given or name == "sba" else {}
    return make_run(**given | fair | parameters)


def few(n=48):
    data = sba.load("digits")
    return data.__class__(**{**data.__dict__, "train": data.train[:n], "test": data.test[:40]})


def outcome(trained):
    """What a training came to, but for times."""
    history = [(r.epoch, r.lr, r.terms, r.counts, r.error, r.nll, r.images) for r in trained]
    return history, {k: v.tolist() for k, v in trained.objective.state_dict().items()}


def train_all(names):
    """Every run on a few images, with the draws behind it; and two longer ones: starting processes takes longer than they do."""
    found = {}
    for name in names:
        with Draws() as draws:
            found[name] = *outcome(sba.train(run_of(name), few())), list(draws)
    return found | {"on moons": train_moons(), "on digits": train_long()}


def train_in_pieces(names, folder, stop_at):
    """Stop each run once, go on from its checkpoint, and return how many steps the first piece did and what came of it."""
    found = {}
    for name in names:
        part = sba.train(run_of(name), few(), folder=Path(folder, name))
        part.stop = lambda part=part: ranks.rank() == 1 and part.step >= stop_at
        list(part)
        found[name] = part.step, *outcome(sba.train(run_of(name), few(), folder=Path(folder, name)))
    return found


def die_at(name, folder, step):
    """Save after every epoch, and be killed before a step: where the processes ask each other, so that none waits for the dead."""
    loop.SAVE_SECONDS = 0
    victim = sba.train(run_of(name), few(), folder=folder)
    victim.stop = lambda: victim.step >= step and os.kill(os.getpid(), signal.SIGKILL)
    list(victim)


def finish(name, folder):
    trained = sba.train(run_of(name), few(), folder=folder)
    start = trained.step
    return start, *outcome(trained)


@pytest.fixture(scope="module")
def whole():
    return together(train_all, (*METHODS, *ON_THE_DATA))


@every_run
def test_all_ranks_end_with_the_same_weights_memory_and_history(whole, name):
    """After 21 steps in which each saw its own half of every batch."""
    (history, state, _), (other_history, other_state, _) = (found[name] for found in whole)
    # the statistics that batch normalisation only evaluates with are each rank's own
    shared = [k for k in state if not k.startswith("network.") or not k.endswith(("mean", "var", "tracked"))]
    assert history == other_history and len(history) == 7
    assert {k: state[k] for k in shared} == {k: other_state[k] for k in shared}
    assert all(math.isfinite(term) for entry in history for term in entry[2].values())
    start = sba.train(run_of(name), few()).network.state_dict()
    assert all(state[f"network.{k}"] != v.tolist() for k, v in start.items() if k.endswith("weight"))


@every_run
def test_all_ranks_take_the_same_branches(whole, name):
    """λ(t), the layer and the weight of a mixture: gradients that are averaged would hide a difference."""
    assert whole[0][name][2] == whole[1][name][2]
    assert whole[0][name][2] or name in {"erm", "r-drop", "label-smoothing", "isda", *ON_THE_DATA}


CHUNKED = {
    "sent once": {},
    "sent with every chunk": {},
    "adapted": {"adapt_norm": True},
}


def train_in_chunks():
    """Three views in chunks: return the weights, and how often gradients were exchanged."""
    found = {}
    for name, options in CHUNKED.items():
        trained = sba.train(run_of("erm", epochs=2, views=3, chunked=True, **options), few())
        if name == "sent with every chunk":
            trained.update = joint
        sent = []

        def counted(state, bucket, sent=sent):
            sent.append(1)
            return allreduce_hook(state, bucket)

        trained.model.register_comm_hook(None, counted)
        list(trained)
        found[name] = {k: v.tolist() for k, v in trained.network.named_parameters()}, len(sent), trained.step
    return found


def rows_to_match():
    return torch.randn(32, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def match():
    """How much closer k-mixup's partners are, by this rank's rows and by all; and each λ of a training that depends on it."""
    half = rows_to_match()[distributed.share(32)]
    order = torch.arange(16).roll(4)
    partners = pairs(half, order, 4)
    weights = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sba.methods.kmixup.beta", lambda u, alpha: weights.append((u, alpha)) or beta(u, alpha))
        list(sba.train(run_of("k-mixup", alpha=0.2, match_mixup=True, epochs=1), few()))
    return partners, shrinkage(half, order, partners), weights


def chunks_and_matches():
    return train_in_chunks(), match()


@pytest.fixture(scope="module")
def pieces():
    return together(chunks_and_matches)


def test_gradients_of_chunks_are_sent_once_a_step_but_where_their_lengths_count(pieces):
    """The weights are those of sending each chunk's, up to rounding, and equal on both ranks."""
    first, second = (chunks for chunks, _ in pieces)
    assert first == second
    (once, sent_once, steps), (each, sent_each, _) = first["sent once"], first["sent with every chunk"]
    assert (steps, sent_once, sent_each, first["adapted"][1]) == (6, 6, 18, 18)
    for name, values in once.items():
        torch.testing.assert_close(torch.tensor(values), torch.tensor(each[name]), rtol=1e-4, atol=1e-6)
    assert any(values != first["adapted"][0][name] for name, values in once.items())


def test_the_weight_of_a_mixture_that_depends_on_distances_is_that_of_all_ranks_rows(pieces):
    """Each rank matches its own rows, and their distances add up."""
    x = rows_to_match().unflatten(0, (RANKS, 16))
    plain = sum((half - half[torch.arange(16).roll(4)]).square().sum() for half in x)
    matched = sum((half - half[partners]).square().sum() for half, (_, (partners, *_)) in zip(x, pieces, strict=True))
    (_, ratio, weights), (_, other_ratio, other_weights) = (found for _, found in pieces)
    assert ratio == other_ratio == pytest.approx((matched / plain).item(), rel=1e-12)
    assert weights == other_weights and len(weights) == 3 and len({alpha for _, alpha in weights}) == 3


def test_plain_training_on_two_halves_is_training_on_the_batch(whole):
    """A network without batch normalisation and dropout, data without augmentation: only the order of sums differs."""
    found = whole[0]["on moons"]
    alone = train_moons()
    assert found[0][-1][4] == pytest.approx(alone[0][-1][4], abs=1.0)
    for name, values in alone[1].items():
        torch.testing.assert_close(torch.tensor(found[1][name]), torch.tensor(values), rtol=1e-3, atol=1e-4)


def train_moons():
    data = sba.load("moons")
    run = make_run("moons", epochs=2, batch_size=20)
    return outcome(sba.train(run, data))


def test_two_processes_learn_what_one_learns(whole):
    """SBA with batch normalisation, where draws and statistics differ: the errors agree within some images."""
    assert abs(whole[0]["on digits"] - train_long()) < 5


def train_long():
    data = sba.load("digits")
    run = make_run("digits", method="sba", eta=0.1, epochs=4, batch_size=64)
    return list(sba.train(run, data))[-1].error


def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(whole, tmp_path):
    """One rank asks to stop; both do, at the same step."""
    names = ("sba", "isda")
    found = together(train_in_pieces, names, tmp_path, 5)
    for name in names:
        for rank in range(RANKS):
            steps, history, _ = found[rank][name]
            assert steps == 8 and history == whole[rank][name][0]
        # the other rank's running statistics are nobody's: the saved network is the first one's
        assert found[0][name][2] == whole[0][name][1]
    assert sorted(p.name for p in tmp_path.glob("*/*")) == ["checkpoint.pt"] * len(names)


def test_killed_and_restarted_is_uninterrupted_bit_for_bit(whole, tmp_path):
    assert together(die_at, "isda", tmp_path, 16) == [None, None]
    found = together(finish, "isda", tmp_path)
    assert found[0][0] == 15 and found[0][1:] == whole[0]["isda"][:2]


def test_what_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    assert distributed.share(9) == slice(3, 6)
    with pytest.raises(ConfigError, match="batch_size: 16 cannot be shared equally by 3 processes"):
        distributed.share(16)


def test_one_card_cannot_serve_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigError, match="device: 'cuda:1' is one card for 2 processes; give --device cuda"):
        distributed.launched("cuda:1").__enter__()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="process 0 of this machine has no card"):
        distributed.launched("cuda").__enter__()


def train_again(folder):
    """What the command of the test below says when it is given again."""
    os.chdir(folder)
    run = make_run(method="sba", epochs=1)
    return train_once(run, Path("results.jsonl"), True, False, machine=Machine(), folder=Path("run"))


def test_torchrun_writes_one_record_and_one_checkpoint(tmp_path, forked):
    command = [sys.executable, FORKED, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command += ["-m", "sba", "train", "--method", "sba", "--epochs", "1", "--threads", "1", "--quiet"]
    command += ["--results", "results.jsonl", "--folder", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(sba.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (record,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert record["processes"] == RANKS
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "claim"]
    assert done.stdout.count(f"record {record['id']} appended") == 1
    again = f"results.jsonl has this run already, made by the same code on the same data and machine: {record['id']}"
    assert together(train_again, tmp_path) == [(again, 0)] * RANKS
