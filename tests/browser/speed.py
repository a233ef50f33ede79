"""Measure the playground: training steps and redraws a second in headless Chromium. Run it: python tests/browser/speed.py"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pages import BROWSERS, live

from sba.book import explore

SECONDS = 4
COUNTS = (
    "Object.fromEntries(Object.entries(document.querySelector('.explorer').dataset).map(([k, v]) => [k, Number(v)]))"
)


def main() -> None:
    """Print steps (of both networks together) and redraws a second at each layer, augmented with ω = π/3 and at every step."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        address = live(explore.playground(), Path(folder) / "page.html")
        for layer in ("input", "hidden 1", "hidden 2"):
            for omega in (1.0472, 0.0):
                tab = browser.new_page()
                tab.goto(f"{address}#speed=1000&steps=20000&points=200&folds=8&layer={layer}&omega={omega}")
                tab.wait_for_timeout(2000)
                first, start = tab.evaluate(COUNTS), tab.evaluate("performance.now()")
                tab.wait_for_timeout(1000 * SECONDS)
                last, seconds = tab.evaluate(COUNTS), (tab.evaluate("performance.now()") - start) / 1000
                done = {name: round((last[name] - first[name]) / seconds) for name in ("steps", "redraws")}
                print(f"{layer:9} ω = {omega:<6} {done['steps']:4} steps/s {done['redraws']:3} redraws/s")
                tab.close()
        browser.close()


if __name__ == "__main__":
    main()
