"""Sphinx extension: what autodoc and napoleon make of this project's docstrings, put right in three places.

* The docstring of a constant or a property is prose. Napoleon takes its words before a colon for a type.
* A docstring names what it refers to as its reader would, `ConfigError` or `Tail.raw`: where one object only bears the
  name, the reference leads there.
* A default that a dataclass makes anew is no Python, and a signature with it is not read as one: an ellipsis stands for it.
"""

from collections import defaultdict
from collections.abc import Mapping

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PROSE = {"attribute", "data", "property"}


def remember(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep a docstring as it was written; runs before napoleon."""
    if what in PROSE:
        app.prose = list(lines)


def restore(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Put it back; runs after napoleon."""
    if what in PROSE:
        lines[:] = app.prose


def endings(objects: Mapping[str, ObjectEntry]) -> dict[str, list[str]]:
    """Map b.c and c to the names a.b.c that end so."""
    found = defaultdict(list)
    for name, entry in objects.items():
        for i, letter in enumerate(name):
            if letter == "." and not entry.aliased:
                found[name[i + 1 :]].append(name)
    return found


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.reference | None:
    """Find the one object whose name ends as a reference does."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains["py"].objects
    if not hasattr(app, "endings"):
        # references are resolved when all pages have been read
        app.endings = endings(objects)
    found = app.endings.get(node["reftarget"].split("sba.")[-1].rsplit("methods.")[-1], [])
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [text], found[0])


def readable(
    app: Sphinx, what: str, name: str, obj: object, options: object, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write `...` for a default that is no Python."""
    return (arguments.replace("<factory>", "...") if arguments else arguments), returns


def setup(app: Sphinx) -> dict:
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.connect("autodoc-process-docstring", remember, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    app.connect("autodoc-process-signature", readable)
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
