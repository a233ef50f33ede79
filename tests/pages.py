"""Where the built site is, what is on its pages, how it is served, and a small book: shared by the tests of the site."""

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
FILES = sorted(p for p in SITE.rglob("*.html") if "_static" not in p.relative_to(SITE).parts)
FORWARDS = [p for p in FILES if 'http-equiv="refresh"' in p.read_text(encoding="utf-8")]
PAGES = [p for p in FILES if p not in FORWARDS]
HOSTED = {"url": "https://github.com/somebody/some-book", "branch": "trunk"}
# the shell draws pages alike and does without the windows around them, which cost half of the time
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
EXPLORERS = [p for p in PAGES if re.search(f'type="{re.escape(VIEW)}"', p.read_text(encoding="utf-8"))]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site under /some/where/ only, as a project's pages on a shared host, and prints nothing."""

    prefix = "/some/where/"

    def translate_path(self, path):
        inside = path.startswith(self.prefix)
        return super().translate_path("/" + path.removeprefix(self.prefix)) if inside else "/nonexistent"

    def log_message(self, *args):
        pass

    def handle(self):
        # a browser that leaves a page drops what it had asked for
        with suppress(ConnectionError):
            super().handle()


@contextmanager
def served(folder):
    """Yield the address under which a folder is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{Quiet.prefix}"
    finally:
        server.shutdown()
        server.server_close()


def extension(name):
    """Import one of the book's Sphinx extensions."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_book(tree, **changes):
    """A tree with one page and one notebook, the project's own files, and its configuration with some keys changed."""
    shutil.copytree(ROOT / "book" / "_ext", tree / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("_assets", "_templates"):
        shutil.copytree(ROOT / "book" / folder, tree / "book" / folder)
    shutil.copy(ROOT / "book" / "references.bib", tree / "book")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    (tree / "_config.yml").write_text(yaml.safe_dump(config | changes), encoding="utf-8")
    toc = {"format": "jb-book", "root": "book/index", "chapters": [{"file": "book/chapter"}]}
    (tree / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    cells = [nbformat.v4.new_markdown_cell("# A chapter"), nbformat.v4.new_code_cell("1 + 1", execution_count=1)]
    cells[1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)]
    about = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), tree / "book" / "chapter.ipynb")
    return tree


def build(tree, text):
    """Build a small book with this text on its page, with the options that ``make book`` gives."""
    options = re.search(r"jupyter-book build \S+ --path-output \S+ (.*?) \|\|", (ROOT / "Makefile").read_text())[
        1
    ].split()
    (tree / "book" / "index.md").write_text(text, encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, env=environment, timeout=240)


LIVE = """<!doctype html><html lang="en" data-theme="THEME"><head><title>A page</title>
<meta name="viewport" content="width=device-width">
<style>body { margin: 0; padding: 12px } html[data-theme="dark"] body { color: #ececec; background: #14181e }</style>
<style>CSS</style></head><body><main><h1>A page</h1><div class="explorer"></div></main><script type="module">
const module = await import(URL.createObjectURL(new Blob([TEXT], { type: "text/javascript" })));
const state = STATE;
const [el, model] = [document.querySelector(".explorer"), { get: (name) => state[name], on() {}, off() {} }];
module.default.render({ model, el });
</script></body></html>"""


def live(explorer, path, theme="light"):
    """Write a page that shows one explorer's picture without a kernel and without the book; return its address."""
    picture = explorer.picture
    state = {"data": dict(picture.data), "alt": picture.alt, "hint": picture.hint}
    parts = {"THEME": theme, "CSS": picture._css, "TEXT": json.dumps(picture._esm), "STATE": json.dumps(state)}
    text = LIVE
    for name, part in parts.items():
        text = text.replace(name, part.replace("</", "<\\/") if name != "CSS" else part, 1)
    path.write_text(text, encoding="utf-8")
    return path.as_uri()
