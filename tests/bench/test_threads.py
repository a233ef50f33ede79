"""Which operations a second thread makes faster: what is measured is named, and the threads are left as they were."""

import time

import pytest
import torch
import torch.nn.functional as F

from sba.bench import threads
from sba.bench.threads import against_threads, milliseconds


def test_work_is_told_apart_by_operation_and_waiting_is_none():
    x, weight = torch.randn(8, 3, 16, 16), torch.randn(4, 3, 3, 3, requires_grad=True)

    def step():
        F.conv2d(x, weight).sum().backward()
        time.sleep(0.2)

    start = time.thread_time()
    taken = milliseconds(step)
    worked = 1e3 * (time.thread_time() - start)
    assert {"convolution (4, 3, 3, 3)", "convolution_backward (4, 3, 3, 3)", "sum"} <= taken.keys()
    assert 0 < sum(taken.values()) <= worked


def test_a_step_at_one_thread_is_compared_with_one_at_two(monkeypatch):
    monkeypatch.setattr(threads, "BATCH", 4)
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(threads, "milliseconds", lambda step: seen.append(torch.get_num_threads()) or one(seen[-1]))

    def one(n):
        return {"large": 8.0 / n, "fixed": 2.0, "small": 0.01}

    found = against_threads("alexnet", 2, "none")
    assert seen == [1, 2] * 4 and torch.get_num_threads() == before
    assert found.value == pytest.approx(10.01 / 6.01) and found.rounds == 2
    own = {k: v for k, v in found.details.items() if "," in k}
    assert own == {"large, 1 thread ms": 8, "large, 2 threads ms": 4, "fixed, 1 thread ms": 2, "fixed, 2 threads ms": 2}
    assert found.details["load"] >= 0 and found.about.family == "threads"
