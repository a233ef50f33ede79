"""Where the built site is, what is on its pages, and how it is served: shared by the tests of the site."""

import functools
import http.server
import importlib.util
import re
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
PAGES = sorted(p for p in SITE.rglob("*.html") if "_static" not in p.relative_to(SITE).parts)
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
