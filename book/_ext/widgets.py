"""Sphinx extension: the explorers of executed notebooks, in their own page and in others, without a kernel.

* A widget that `book/_assets/widgets/host.js` cannot draw is a warning, and warnings fail the build.
* Beside each view stands the notebook's still picture, which the script takes away when the live one is drawn.
* The directive `explorer` shows an explorer of a notebook in another page: nothing is computed twice.
"""

import base64
import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)
HOST = "widgets/host.js"
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
DRAWN = {
    "AnyModel", "CheckboxModel", "DropdownModel", "FloatLogSliderModel", "FloatSliderModel", "HBoxModel",
    "IntSliderModel", "VBoxModel",
}  # fmt: skip
"""What host.js draws; a test holds the two lists equal."""
MARK = "IPY_MODEL_"


def seen(state: Mapping[str, Any], model: str) -> Iterator[str]:
    """The models that a page draws to show one of them: itself and its children, but none that need a kernel."""
    yield model
    own = state.get(model, {}).get("state", {})
    if "needs-kernel" not in own.get("_dom_classes", []):
        for child in own.get("children", []):
            yield from seen(state, child.removeprefix(MARK))


def faults(notebook: Mapping[str, Any]) -> list[str]:
    """What a page could not draw of a notebook's widgets, in words."""
    state = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    found = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                for model in seen(state, output["data"][VIEW]["model_id"]):
                    name = state.get(model, {}).get("model_name", "a widget without a state")
                    if name not in DRAWN:
                        found.append(
                            f"cell {cell.get('id', '')}: the page cannot draw {name}; use one of {sorted(DRAWN)}"
                        )
    return found


def check(app: Sphinx, doctree: nodes.document) -> None:
    """Warn of every widget of a notebook that its page could not draw."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        for fault in faults(json.loads(path.read_text(encoding="utf-8"))):
            LOGGER.warning(fault, location=app.env.docname, type="widgets")


def put_stills(app: Sphinx, doctree: nodes.document) -> None:
    """Put the still picture of an output behind its view, with the output's text as its own."""
    for bundle in doctree.findall(lambda node: getattr(node, "attributes", {}).get("nb_element") == "mime_bundle"):
        parts = {child["mime_type"]: child for child in bundle.children}
        if VIEW in parts and "image/png" in parts:
            still = nodes.container("", *(child.deepcopy() for child in parts["image/png"]), classes=["explorer-still"])
            for image in still.findall(nodes.image):
                image["alt"] = parts["text/plain"].astext()
            parts[VIEW] += still


def part_of(state: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The state that one view needs: its models and the links between them."""
    wanted = set(seen(state, model))
    linked = {name for name, own in state.items() if own["model_name"] == "LinkModel" and _ends(own["state"]) <= wanted}
    return {name: state[name] for name in state if name in wanted | linked}


def _ends(link: Mapping[str, Any]) -> set[str]:
    return {link[end][0].removeprefix(MARK) for end in ("source", "target")}


class Explorer(SphinxDirective):
    """Show the explorer that a cell of an executed notebook holds: the argument is the notebook, the option its cell's id."""

    required_arguments = 1
    option_spec = {"cell": str}  # noqa: RUF012 - docutils wants it so

    def run(self) -> list[nodes.Node]:
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        outputs = [
            o["data"] for c in notebook["cells"] if c["id"] == self.options["cell"] for o in c.get("outputs", [])
        ]
        views = [data for data in outputs if VIEW in data]
        if not views:
            LOGGER.warning(f"{relative}: no explorer in cell {self.options['cell']!r}", location=self.get_location())
            return []
        whole = notebook["metadata"]["widgets"][STATE]
        state = {**whole, "state": part_of(whole["state"], views[0][VIEW]["model_id"])}
        self.env.metadata[self.env.docname]["explorer"] = True
        alt = html.escape("".join(views[0]["text/plain"]))
        picture = base64.b64encode(base64.b64decode("".join(views[0]["image/png"]))).decode()
        text = _script(STATE, state) + _script(VIEW, views[0][VIEW])
        text += f'<div class="explorer-still"><img alt="{alt}" src="data:image/png;base64,{picture}"></div>'
        return [nodes.raw("", text, format="html")]


def _script(kind: str, content: Any) -> str:
    text = json.dumps(content).replace("</", "<\\/")  # the text must not end the element
    return f'<script type="{kind}">{text}</script>'


def load_host(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Load the script on a page with an explorer of another one (myst-nb does it for a notebook's own)."""
    if "explorer" in app.env.metadata.get(page, {}):
        app.add_js_file(HOST, defer="defer")


def setup(app: Sphinx) -> dict:
    app.add_directive("explorer", Explorer)
    app.connect("doctree-read", check)
    # before the images are collected
    app.connect("doctree-read", put_stills, priority=100)
    app.connect("html-page-context", load_host)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
