"""A progress bar over a training, one update an epoch; signals that stop it."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from sba.training.loop import Training


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C and SIGTERM for the wish to stop with a checkpoint; what is given says whether one came."""
    told: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: told.append(number)) for number in numbers]
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def follow(training: Training, quiet: bool = False) -> None:
    """Run a training to its end, its budget or its stop signal, showing each epoch; epochs of an earlier call count as done."""
    bar = tqdm(
        total=training.run.epochs, initial=len(training.history), unit="epoch", disable=quiet, desc=training.run.title
    )
    done = bar.n
    with bar:
        for record in training:
            if record.epoch > done:
                losses = {name: f"{value:.4f}" for name, value in record.terms.items()}
                error = {} if math.isnan(record.error) else {"error": f"{record.error:.2f} %"}
                rate = f"{record.images / record.seconds:.0f}" if record.seconds else "—"
                bar.set_postfix({**losses, **error, "images/s": rate}, refresh=False)
                bar.update()
