"""The explorer of ω × η: curves, accuracy, calibration and decisions of networks trained at every pair of a grid."""

import threading
from collections.abc import Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from sba.book import style
from sba.book.widgets import Explorer, KernelOnly, Picture, choice, packed, slider
from sba.core.errors import SBAError
from sba.data.datasets import load
from sba.methods import SBA
from sba.records.schema import Record
from sba.records.stats import half_width, mean
from sba.report.grid import Grid, grid
from sba.studies.omega_eta import PROBLEMS
from sba.training.loop import train
from sba.training.run import make_run

HINT = (
    "Raise η from its lowest value at ω = 0: where does the error leave that of plain training, and does calibration leave it "
    "earlier? Then turn ω towards π/2, where every η is plain training again."
)
ALT = (
    "Four panels for the measured pair nearest to the sliders: test error by epoch beside plain training; the final error of "
    "every pair of ω and η as a map; accuracy against confidence; and the decision between two moons, or the test loss."
)
TITLES = {"digits": "a hundred digits", "moons": "two moons"}
NOTE = "In Jupyter a button stands here that trains this network at the ω and η of the sliders and draws its curve (make lab)."
LAST = 5


def omega_eta(records: Sequence[Record], problem: str = "digits", **first: float) -> Explorer:
    """Explore networks trained on a grid of ω and η (Fig. 2's question, on small problems).

    The sliders move freely; what is shown was measured at the nearest pair, whose record the readout names.

    Args:
        problem: "digits" or "moons", where the choice starts.
        first: where the sliders of ``omega`` and ``eta`` start; what is left out starts at its default.

    Raises:
        ResultsError: there are no records of the study.
    """
    grids = {name: grid(records, name) for name in TITLES}
    names = list(grids)
    controls = {
        "problem": choice("problem", list(TITLES.values()), names.index(problem), "data set and network"),
        "omega": slider(SBA, "omega", first.get("omega")),
        "eta": slider(SBA, "eta", first.get("eta")),
    }
    one = grids[problem]
    data = {"omegas": list(one.omegas), "etas": list(one.etas), "problems": [prepared(g) for g in grids.values()]}
    picture = Picture("omega_eta", data, ALT, HINT, controls, own={"problem": None, "errors": []})
    return Explorer(picture, still(one, controls["omega"].value, controls["eta"].value), train_here(picture))


def prepared(found: Grid) -> dict[str, Any]:
    """Return what the ES module draws one problem from: means over the seeds."""
    final = np.median(found.curves["error"][..., -LAST:], axis=-1)
    pooled = [[found.reliability(i, j) for j in range(len(found.etas))] for i in range(len(found.omegas))]
    arrays: dict[str, Any] = {name: mean(found.curves[name]) for name in ("error", "nll")}
    arrays |= {"ece": mean(found.scores["ece"]), "final": mean(final), "half": half_width(final)}
    arrays |= {name: [[one[name] for one in row] for row in pooled] for name in ("count", "confidence", "accuracy")}
    held = {name: packed(values) for name, values in arrays.items()}
    about: dict[str, Any] = {
        "arrays": held,
        "bins": len(pooled[0][0]["count"]),
        "dark": 2 * float(arrays["final"][-1, 0]),
        "ids": [list(found.members(i, j)) for i in range(len(found.omegas)) for j in range(len(found.etas))],
    }
    if found.decision is not None:
        held["decision"] = packed(np.nan_to_num(mean(found.decision) * 255).round(), "uint8")
        moons = load("moons")
        points = (moons.resident[0].images.flatten(1).double() / 51 - 2).numpy()
        about |= {
            "pixels": list(found.decision.shape[-2:]),
            "extent": list(found.extent or ()),
            "points": [points[moons.train.labels.numpy() == c].round(3).tolist() for c in (0, 1)],
            "colours": [[round(255 * part) for part in to_rgb(style.REGIONS(end))] for end in (1.0, 0.0)],
        }
    return about


def train_here(picture: Picture) -> KernelOnly:
    """Make the box that trains one network at the sliders' ω and η, with progress; it needs a kernel."""
    button = ipywidgets.Button(description="Train here", tooltip="train one network at these ω and η")
    stop = ipywidgets.Button(description="Stop", disabled=True)
    progress = ipywidgets.IntProgress(layout={"width": "260px"})
    told = ipywidgets.Label("One network, seed 0: compare it with the mean over the seeds.")
    stopped = threading.Event()

    def work() -> None:
        try:
            number = picture.controls["problem"].index
            problem = PROBLEMS[number]
            which = picture.controls["problem"].label
            own = {name: picture.controls[name].value for name in ("omega", "eta")}
            run, errors = make_run(**problem, method="sba", **own), []
            progress.max = run.epochs
            for record in train(run, load(run.dataset, holdout=run.holdout)):
                errors.append(record.error)
                progress.value, picture.own = len(errors), {"problem": number, "errors": list(errors)}
                told.value = (
                    f"{which}, ω = {own['omega']:.3f}, η = {own['eta']:.3g}: "
                    f"epoch {len(errors)}, error {record.error:.2f} %"
                )
                if stopped.is_set():
                    break
        except SBAError as error:
            told.value = str(error)
        finally:
            button.disabled, stop.disabled = False, True

    def begin(_: Any) -> None:
        stopped.clear()
        button.disabled, stop.disabled, progress.value = True, False, 0
        threading.Thread(target=work, daemon=True).start()

    button.on_click(begin)
    stop.on_click(lambda _: stopped.set())
    return KernelOnly([ipywidgets.HBox([button, stop, progress]), told], NOTE)


def still(found: Grid, omega: float, eta: float) -> Figure:
    """Draw the first state for readers without scripts."""
    style.use()
    row, column = found.nearest(omega, eta)
    errors = mean(found.curves["error"])
    final = mean(np.median(found.curves["error"][..., -LAST:], axis=-1))
    fig, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.1))
    left.plot(errors[-1, 0], color=style.colour("erm"), label="plain training")
    left.plot(
        errors[row, column], color=style.colour("sba"), label=f"ω = {found.omegas[row]:.2f}, η = {found.etas[column]:g}"
    )
    left.set(xlabel="epoch", title="test error, %", ylim=(0, 3 * np.nanmax(errors[-1, 0, -LAST:])))
    left.legend()
    right.imshow(final, cmap=style.DENSITY, vmax=np.nanquantile(final, 0.9), aspect="auto")
    right.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=style.colour("sba"), lw=3))
    right.set(xticks=range(len(found.etas)), xticklabels=[f"{e:g}" for e in found.etas], xlabel="η", ylabel="ω, rad")
    right.set(yticks=range(len(found.omegas)), yticklabels=[f"{w:.2f}" for w in found.omegas])
    right.set(title="final test error: dark is high")
    return fig
