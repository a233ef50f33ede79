"""Sphinx extension: the book's own files, MathJax beside the pages, and no request to another host.

* `book/_assets` joins the static files; its `book.css` and `boxes.js` are loaded on every page.
* MathJax 3 comes from the package `sphinx-mathjax-offline`; only the parts that a page can load are copied.
* sphinx-thebe is part of Jupyter Book 1. It needs a server, names a host, and declares its constants twice, which is a
  SyntaxError on every page: it is taken out.
* The theme's second search field, in a bar of its own above every page, is left out, and so is its script of icons, which its
  style sheet draws as well (`book/_templates`).
* The site's first file forwards to the book's first page, and the old address of a page to its new one. It holds the icon,
  which a browser would look for on the host's root, and whose request, were it a file, would be cut off as the page is left.
* Every page says in its head what it is about, for search engines and previews; where the configuration says where the pages
  stand (`html: baseurl`), previews have the picture of the answer: its address must be a whole one.
* Opened as files, the search shows no excerpts: a browser does not let a page read another file.
"""

import html
import zlib
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from urllib.parse import quote, urljoin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.fileutil import copy_asset

ASSETS = Path(__file__).resolve().parents[1] / "_assets"
# the program, its fonts, what \require and autoload fetch, and what the reader can switch on for a screen reader
MATHJAX = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions", "a11y", "sre")


def mathjax_folder() -> Path:
    """The folder of MathJax in the installed package. Raises `ExtensionError` when the package is missing."""
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None:
        raise ExtensionError("the package sphinx-mathjax-offline is missing: pip install -e '.[book]'")
    return Path(spec.origin).parent / "static" / "mathjax"


def use_own_files(app: Sphinx, config: object) -> None:
    """Point the configuration at the files beside the pages."""
    app.config.html_static_path.append(str(ASSETS))
    app.config.html_favicon = str(ASSETS / "favicon.svg")
    app.config.templates_path.append(str(ASSETS.parent / "_templates"))
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    # here and not in _config.yml: there, html_theme_options would wipe what Jupyter Book puts into it
    app.config.html_theme_options["navbar_persistent"] = []
    # without a repository there is nothing to launch; Jupyter Book would offer its own
    if not app.config.html_theme_options.get("repository_url"):
        app.config.html_theme_options.pop("launch_buttons", None)
    # the reader's own setting, light or dark; without a default the theme complains in the browser's console
    app.config.html_context.setdefault("default_mode", "auto")


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy MathJax into the finished site (only once: it does not change between builds)."""
    target = Path(app.outdir, "_static", "mathjax")
    if error is not None or app.builder.format != "html":
        return
    source = mathjax_folder()
    for part in MATHJAX:
        if not (target / part).exists():
            copy_asset(str(source / part), str((target / part).parent if (source / part).is_file() else target / part))


def copy_preview(app: Sphinx, error: Exception | None) -> None:
    """Copy the picture that previews show, if they can: a notebook has drawn it."""
    if error is None and app.builder.name == "html" and app.config.html_baseurl:
        copy_asset(str(Path(app.srcdir, PREVIEW)), str(Path(app.outdir, "_static")))


PREVIEW = Path("book", "_figures", "answer.png")
DESCRIBED = 200
"""Letters of a page's description."""
MOVED = {
    "index": "notebooks/result",  # where a site is looked for
    "book/index": "notebooks/result",
    "notebooks/00_tour": "notebooks/01_tour",
    "notebooks/01_vicinity": "notebooks/02_vicinity",
    "notebooks/02_scheduler": "notebooks/03_scheduler",
    "notebooks/03_soft_label": "notebooks/04_soft_label",
    "notebooks/04_gradient": "notebooks/14_gradient",
    "notebooks/05_closed_form": "notebooks/15_closed_form",
    "notebooks/06_hyperparameters": "notebooks/08_omega_eta",
    "notebooks/07_efficiency": "notebooks/12_cost",
    "notebooks/08_cifar": "notebooks/05_cifar",
    "notebooks/09_imagenet": "notebooks/06_imagenet",
    "notebooks/12_switches": "notebooks/07_ablations",
    "notebooks/14_when": "notebooks/09_when",
}
"""Old addresses of pages, and their new ones. What stands behind # in an address is kept."""
FORWARD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<meta http-equiv="refresh" content="1; url={now}">
<script>location.replace("{now}" + location.hash)</script>
<link rel="icon" href="{icon}">
</head>
<body><a href="{now}">{title}</a></body>
</html>
"""


def forward(app: Sphinx, error: Exception | None) -> None:
    """Write the site's first file, and one at each old address of a page, that lead to where the page is now."""
    if error is not None or app.builder.name != "html":
        return
    icon = (ASSETS / "favicon.svg").read_text(encoding="utf-8")
    for old, new in MOVED.items():
        # a smaller book, as the tests build one, has not every page
        if new in app.env.found_docs and old not in app.env.found_docs:
            text = FORWARD.format(
                title=html.escape(app.env.titles[new].astext()),
                now=app.builder.get_relative_uri(old, new),
                icon=f"data:image/svg+xml,{quote(icon)}",
            )
            path = Path(app.builder.get_outfilename(old))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


def drop_thebe_settings(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Take sphinx-thebe's settings, which name a repository that is not ours, out of the page's text."""
    for node in list(doctree.findall(nodes.raw)):
        if "thebe" in node.astext() or node.astext().startswith("<script>kernelName"):
            node.parent.remove(node)


def drop_thebe(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Take sphinx-thebe's scripts and style sheet out of the page."""
    for kind in ("script_files", "css_files"):
        context[kind] = [item for item in context.get(kind, []) if "thebe" not in _text(item)]


def describe(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Tell search engines and previews what a page is about: its first paragraph, cut behind a word."""
    paragraph = next((p for p in doctree.findall(nodes.paragraph) if len(p.astext()) > 60), None) if doctree else None
    if paragraph is not None:
        text = shorten(" ".join(paragraph.astext().split()), DESCRIBED, placeholder=" …")
        about = {
            "og:title": app.env.titles[page].astext(),
            "og:description": text,
            "og:type": "article",
            "og:site_name": app.config.html_title,
        }
        if app.config.html_baseurl:
            root = f"{app.config.html_baseurl.rstrip('/')}/"
            picture = f"_static/{PREVIEW.name}"
            about |= {"og:url": urljoin(root, app.builder.get_target_uri(page)), "og:image": urljoin(root, picture)}
        tags = [("name", "description", text), *(("property", name, value) for name, value in about.items())]
        context["metatags"] = context.get("metatags", "") + "".join(
            f'<meta {kind}="{name}" content="{html.escape(value)}">\n' for kind, name, value in tags
        )


def search_in_files(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Keep the search from fetching pages where that fails."""
    if page == "search":
        text = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'
        app.add_js_file(None, body=text)


def _text(item: object) -> str:
    """The name and the inline body of a script or a style sheet."""
    attributes = getattr(item, "attributes", {})
    return f"{getattr(item, 'filename', item)} {attributes.get('body', '')}".lower()


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", use_own_files, priority=900)
    # after sphinx-thebe and the theme have added theirs
    app.connect("doctree-resolved", drop_thebe_settings, priority=900)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", search_in_files)
    app.connect("html-page-context", describe)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", copy_preview)
    app.connect("build-finished", forward)
    app.add_css_file("book.css", priority=900)
    app.add_js_file("boxes.js", defer="defer")
    # Sphinx copies no static file in a build without a changed page: a changed asset is to build every page again
    folders = (ASSETS, ASSETS.parent / "_templates")
    sources = [Path(__file__), *sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())]
    state = zlib.crc32(b"".join(path.read_bytes() for path in sources))
    return {"env_version": state, "parallel_read_safe": True, "parallel_write_safe": True}
