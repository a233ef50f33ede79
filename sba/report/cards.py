"""A card for each method: what it does, its loss, its hyper-parameters, what a step takes, what its records say, who made it.

Everything on a card comes from the code or from records. Cutout and Batch Augmentation belong to the data of a run and Batch
Augmentation at a layer is a preset of SBA; they have cards as well.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sba.core.hyper import definitions
from sba.methods import METHODS, SBA
from sba.records.names import column, facts, title
from sba.records.schema import BenchRecord, Record
from sba.report.averages import averages, deviations, evidence, settings, written
from sba.report.html import NOT_RUN, table
from sba.training.run import Run

NETWORK = "resnet44"
"""The network whose steps are timed."""


@dataclass(frozen=True)
class Card:
    """What the book says of one method."""

    name: str  #: as the bench names it
    title: str  #: as tables write it
    option: str  #: how the command line asks for it
    sentence: str  #: what it does
    formula: str  #: the loss of an iteration, in TeX
    cited: tuple[str, ...]  #: keys of ``book/references.bib``
    fields: tuple[dict[str, Any], ...]  #: hyper-parameters, as :func:`sba.records.names.facts` gives them
    owns: Callable[[Run], bool]  #: whether a run belongs to it; each belongs to one card


def cards() -> list[Card]:
    """List the cards: the methods in the order of the registry, with their relatives on the data's side after the baseline."""
    after = {"erm": [CUTOUT, BATCH_AUGMENTATION], "sba": [LATENT]}
    return [card for name in METHODS for card in (of_method(name), *after.get(name, []))]


def of_method(name: str) -> Card:
    """Make the card of a method of the registry."""
    cls = METHODS[name]
    return Card(
        name,
        cls.title,
        f"--method {name}",
        (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " "),
        cls.formula,
        cls.cited,
        tuple(facts(cls, field) for field in definitions(cls)),
        lambda run: run.method.name == name and (name != "erm" or column(run) == "erm") and not is_latent(run),
    )


def is_latent(run: Run) -> bool:
    """Say whether a run is one of Batch Augmentation at a layer, whatever its M and layers."""
    preset = SBA.presets["latent-ba"].items()
    return isinstance(run.method, SBA) and all(getattr(run.method, name) == value for name, value in preset)


CUTOUT = Card(
    "cutout",
    title("cutout"),
    "--cutout SIDE",
    "Fill a square of each image with the mean colour before every step; its centre is any pixel, what lies outside is cut off. "
    "It belongs to the augmentation and combines with every method.",
    METHODS["erm"].formula,
    ("devries2017cutout",),
    (facts(Run, "cutout"),),
    lambda run: column(run) == "cutout",
)
BATCH_AUGMENTATION = Card(
    "ba",
    "Batch Augmentation (BA)",
    "--views M",
    "Show the network every image of a batch M times in one step, each time augmented anew; learning rate, steps and schedule "
    "stay. It belongs to the data of a run and combines with every method.",
    r"\frac{1}{MB} \sum_{i,j} \operatorname{CE}(\mathbf 1_{y_i}, Y_{ij}),\quad \mathbf x_{ij} = T_j(\mathbf x_i)",
    ("hoffer2020augment",),
    tuple(facts(Run, name) for name in ("views", "chunked", "adapt_norm")),
    lambda run: column(run) in ("ba", "cutout+ba"),
)
LATENT = Card(
    "latent-ba",
    "Batch Augmentation at a layer",
    "--method sba --preset latent-ba",
    "Show the layers behind k every activation M times in one step, each time under another dropout mask and with its own label. "
    "It is SBA with a hard label, at every step, in the place of the cross-entropy.",
    r"\frac{1}{MB} \sum_{i,j} \operatorname{CE}(\mathbf 1_{y_i}, Y_{ij}),\quad \mathbf h_{ij} = \mathbf b_{ij} \odot \mathbf h_i",
    ("hoffer2020augment",),
    tuple(
        facts(SBA, name) | {"default": SBA.presets["latent-ba"].get(name, facts(SBA, name)["default"])}
        for name in ("folds", "dropout_rate", "layers", *SBA.presets["latent-ba"])
    ),
    is_latent,
)


def timing(card: Card, found: Iterable[Record], network: str = NETWORK) -> BenchRecord | None:
    """Return the newest benchmark of a method's step over a plain step of a network, or None.

    SBA and its limit are timed with the paper's M at the last layer and ω = π/3.
    """
    steps = (r for r in found if isinstance(r, BenchRecord) and r.compared.family in ("step", "relatives"))
    wanted = (network, card.name, "")
    own = (r for r in steps if (r.compared.network, r.compared.method, r.compared.variant) == wanted)
    return max(own, key=lambda r: r.date, default=None)


def name_of(run: Run) -> str:
    """Return the title of the card that a run belongs to, with Cutout and views before it if they are not the card's own."""
    own = next(card for card in cards() if card.owns(run))
    cutout = [title("cutout")] if run.cutout and own.name != "cutout" else []
    views = [title("ba")] if run.views > 1 and own.name != "ba" else []
    return " + ".join([*cutout, *views, own.title])


def evidence_lines(card: Card, found: Iterable[Record]) -> list[str]:
    """Write what a method's records say, one line for each setting; nothing if there are none."""
    lines = []
    for one in averages(r for r in evidence(found) if card.owns(r.run)):
        run = one.run
        length = f"{run.epochs} of {run.full_epochs} epochs, reduced" if one.reduced else f"{run.epochs} epochs"
        cutout = "with Cutout" if run.cutout and card.name != "cutout" else ""
        parts = [title(run.dataset), title(run.network), cutout, settings(run), *deviations(run)]
        ids = " ".join(f"`{i}`" for i in one.ids)
        error = f"{written(one.mean, one.half)}\u00a0% (n={one.n})"
        lines.append(f"{', '.join(filter(None, parts))}: {error} after {length}; {ids}")
    return lines


def markdown(card: Card, found: Iterable[Record]) -> str:
    """Write a card in MyST Markdown, its hyper-parameters folded."""
    found = list(found)
    time = timing(card, found)
    price = NOT_RUN if time is None else f"{time.value:.2f} × a plain step (`{time.id}`: {time.name})"
    if card.name == "erm":
        price = "what the others are measured in"
    measured = evidence_lines(card, found)
    source = ", ".join(f"{{cite:t}}`{key}`" for key in card.cited) or "Eq. 2 of the SBA paper"
    return f"""\
### {card.title}

{card.sentence}

$$ {card.formula} $$

- **Command line:** `{card.option}`
- **Source:** {source}
- **Cost of a step:** {price}
- **Test error so far:** {"<br>".join(measured) or NOT_RUN}
"""


def fields_html(card: Card) -> str:
    """Write a card's hyper-parameters as a folded table; empty for none."""
    rows = []
    for fact in card.fields:
        symbol = f" ({fact['symbol']})" if fact.get("symbol") else ""
        default = f"{fact['default']:.4g}" if isinstance(fact["default"], float) else str(fact["default"])
        name = f"<code>{fact['name']}</code>{symbol}"
        rows.append((name, fact["description"], default, fact["range"], fact.get("source", "")))
    inside = table(("Field", "What it is", "Default", "Range", "Source"), rows)
    return f"<details><summary>hyper-parameters</summary>{inside}</details>" if rows else ""
