"""The sentences of the book: markdown cells and pages, without code, formulas, roles and addresses."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted(p for p in (ROOT / "book").glob("*.md") if p.name not in ("api.md", "bibliography.md"))

SILENT = re.compile(
    r"""
    ^ (?P<fence>`{3,}|~{3,}) (?!\{admonition\}) [^\n]* \n .*? ^ (?P=fence) \s*? $   # blocks of code and of mathematics
    | ^ (?:`{3,}|:{3,}) [^\n]* $                                                    # fences around prose
    | ^ :\w+: [^\n]* $                                                              # their options
    | (?<=\n\n) (?:[ ]{4}(?![ ]*[-*]) [^\n]* \n)+                                   # indented blocks
    | ^ \( [\w-]+ \)= $                                                             # labels
    | \$\$ .*? \$\$ | \$ [^$]+ \$                                                   # formulas
    | \{glue:text\} `[^`]+`                                                         # numbers that a cell computes
    | \{[\w:]+\} `[^`]+`                                                            # other roles
    | `[^`]+`                                                                       # code
    | \]\( [^)]+ \) | https?://\S+ | </?[a-z][^>]*>                                 # addresses and tags
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


def written(node):
    """A string of a program as a reader of it sees it, with ⟨⟩ in place of what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return written(node.left) + written(node.right)
    return "⟨⟩"


def captions(code):
    """Texts of the figures and tables that a cell shows: for readers who cannot see, and the captions."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("style.show", "style.table"):
            yield from (written(text) for text in [*node.args[1:], *(k.value for k in node.keywords)])


def texts():
    """Yield (where, markdown) of every markdown cell, caption and page, and of the README without what is generated."""
    for path in NOTEBOOKS:
        for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                yield f"{path.name}[{i}]", source
            elif said := "\n\n".join(captions(source)):
                yield f"{path.name}[{i} caption]", said
    for path in PAGES:
        yield path.name, path.read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    yield "README.md", re.sub(r"<!-- (\w+):begin.*?\1:end -->", "", readme, flags=re.DOTALL)


def spoken(text):
    """What is left for a reader's eye to read as words; a computed number becomes ⟨⟩, any other role, code or formula ⟪⟫."""

    def stand_in(match):
        return "⟨⟩" if match[0].startswith("{glue") else " " if "\n" in match[0] or match[0].startswith("](") else "⟪⟫"

    return SILENT.sub(stand_in, text)
