"""A browser that computes what an explorer computes."""

import json

import pytest

CALL = """async ([text, calls]) => {
  const address = URL.createObjectURL(new Blob([text], {type: "text/javascript"}));
  const module = await import(address);
  const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
  return JSON.stringify(calls.map(([name, ...given]) => module[name](...given)), plain);
}"""


@pytest.fixture(scope="module")
def call(browser):
    """Call functions of an explorer's module in the browser: [[name, argument, …], …] → results."""
    widgets = pytest.importorskip(
        "sba.book.widgets", reason="the book's packages are missing: pip install -e '.[book]'"
    )
    page = browser.new_page()
    yield lambda module, *calls: json.loads(page.evaluate(CALL, [widgets.module_text(module), list(map(list, calls))]))
    page.close()
