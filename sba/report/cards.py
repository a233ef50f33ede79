"""A card for each method: what it does, its loss, its hyper-parameters, what a step costs, what was measured, whose it is.

Everything on a card comes from the code or from records. Cutout and Batch Augmentation belong to the data of a run and Batch
Augmentation at a layer is a preset of SBA; they have cards as well.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sba.core.hyper import definitions, facts
from sba.methods import METHODS, SBA
from sba.records.names import title
from sba.report.tables import NOT_RUN, column, hyperparameters, summary
from sba.training.run import Run, from_settings

NETWORK = "resnet44"
"""The network of the measured costs."""


@dataclass(frozen=True)
class Card:
    """What is known of one method.

    Attributes:
        name: as the bench names it.
        title: as tables write it.
        option: how the command line asks for it.
        sentence: what it does.
        formula: the loss of an iteration, in TeX.
        cited: keys of ``book/references.bib``.
        fields: hyper-parameters, as :func:`sba.core.hyper.facts` gives them.
        owns: whether a training record was made by it.
    """

    name: str
    title: str
    option: str
    sentence: str
    formula: str
    cited: tuple[str, ...]
    fields: tuple[dict[str, Any], ...]
    owns: Callable[[dict[str, Any]], bool]


def cards() -> list[Card]:
    """List the cards: the methods in the order of the registry, with their relatives on the data's side after the baseline."""
    listed = [of_method(name) for name in METHODS]
    listed[1:1] = [CUTOUT, BATCH_AUGMENTATION]
    after = [card.name for card in listed].index("sba") + 1
    listed.insert(after, LATENT)
    return listed


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
        lambda record: column(record).removeprefix("cutout+") == name and not is_latent(record),
    )


def is_latent(record: dict[str, Any]) -> bool:
    """Say whether a training record was made by Batch Augmentation at a layer, whatever its M and layers."""
    method = from_settings(record["settings"]).method
    return isinstance(method, SBA) and all(
        getattr(method, name) == value for name, value in SBA.presets["latent-ba"].items()
    )


CUTOUT = Card(
    "cutout",
    title("cutout"),
    "--cutout SIDE",
    "Fill a square of each image with the mean colour before every step; its centre is any pixel, what lies outside is cut off. "
    "It belongs to the augmentation and combines with every method.",
    METHODS["erm"].formula,
    ("devries2017cutout",),
    (facts(Run, "cutout"),),
    lambda record: column(record) == "cutout",
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
    lambda record: column(record) in ("ba", "cutout+ba"),
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
    lambda record: column(record).removeprefix("cutout+") == "sba" and is_latent(record),
)


def cost(card: Card, found: Iterable[dict[str, Any]], network: str = NETWORK) -> dict[str, Any] | None:
    """Return the newest benchmark record of a method's step over a plain step of a network, or None.

    SBA and its limit are measured with the paper's M at the last layer and ω = π/3; the name of the record says what else was set.
    """
    beginnings = {
        "sba": f"{network}: SBA step (M=",
        "implicit-sba": f"{network}: SBA step (M → ∞, second order)",
    }
    start = beginnings.get(card.name, f"{network}: {card.name} step over a plain step")
    own = [r for r in found if r["kind"] == "bench" and r["name"].startswith(start)]
    return max(own, key=lambda r: r["date"], default=None)


def measured(card: Card, found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of :func:`sba.report.tables.summary` that a method's records make."""
    return summary([r for r in found if r["kind"] == "train" and card.owns(r)])


def name_of(record: dict[str, Any]) -> str:
    """Return the title of the card that a training record belongs to, with Cutout where it was on and is not the card's own."""
    own = next(card for card in cards() if card.owns(record))
    cutout = record["settings"]["cutout"] and own.name != "cutout"
    return f"{title('cutout')} + {own.title}" if cutout else own.title


def evidence_lines(card: Card, found: Iterable[dict[str, Any]]) -> list[str]:
    """Write what was measured of a method, one line for each variant; nothing where nothing was."""
    lines = []
    for row in measured(card, found):
        length = (
            f"{row['epochs']} of {row['full_epochs']} epochs, reduced" if row["reduced"] else f"{row['epochs']} epochs"
        )
        cutout = "with Cutout" if row["column"].startswith("cutout+") else ""
        parts = [title(row["dataset"]), title(row["network"]), cutout, hyperparameters(row["settings"])]
        ids = " ".join(f"`{i}`" for i in row["cell"].ids)
        half = "" if row["cell"].half is None else f" ± {row['cell'].half:.2f}"
        lines.append(
            f"{', '.join(filter(None, parts))}: {row['cell'].mean:.2f}{half}\u00a0% (n={row['cell'].n}) after {length}; {ids}"
        )
    return lines


def markdown(card: Card, found: Iterable[dict[str, Any]]) -> str:
    """Write a card in MyST Markdown, its hyper-parameters folded."""
    found = list(found)
    time = cost(card, found)
    price = NOT_RUN if time is None else f"{time['value']:.2f} × a plain step (`{time['id']}`: {time['name']})"
    if card.name == "erm":
        price = "what the others are measured in"
    known = evidence_lines(card, found)
    source = ", ".join(f"{{cite:t}}`{key}`" for key in card.cited) or "Eq. 2 of the SBA paper"
    lines = [
        f"### {card.title}",
        "",
        f"{card.sentence}",
        "",
        f"$$ {card.formula} $$",
        "",
        f"- **Command line:** `{card.option}`",
        f"- **Source:** {source}",
        f"- **Cost of a step:** {price}",
        "- **Test error so far:** " + ("<br>".join(known) if known else NOT_RUN),
        "",
    ]
    return "\n".join(lines)


def table(card: Card) -> str:
    """Write a card's hyper-parameters as a folded HTML table; empty for none."""
    if not card.fields:
        return ""
    rows = "".join(f"<tr><td>{'</td><td>'.join(cells_of(fact))}</td></tr>" for fact in card.fields)
    heads = "".join(f"<th>{head}</th>" for head in ("Field", "What it is", "Default", "Range", "Source"))
    inside = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<details><summary>hyper-parameters</summary><div class="table-box">{inside}</div></details>'


def cells_of(fact: dict[str, Any]) -> tuple[str, ...]:
    """Write one hyper-parameter as the cells of a row."""
    symbol = f" ({fact['symbol']})" if fact.get("symbol") else ""
    default = f"{fact['default']:.4g}" if isinstance(fact["default"], float) else str(fact["default"])
    return f"<code>{fact['name']}</code>{symbol}", fact["description"], default, fact["range"], fact.get("source", "")
