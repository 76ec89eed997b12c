"""`docs/failures.md` names the tests that there are, and every test of this folder says what it keeps out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMED = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "failures.md").read_text(encoding="utf-8"))


def named_in(folder: Path, pattern: str) -> dict[str, str | None]:
    """Return the tests of the modules in a folder, with their docstrings."""
    return {
        node.name: ast.get_docstring(node)
        for path in sorted(folder.rglob(pattern))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_is_named_exists() -> None:
    assert set(NAMED) <= named_in(ROOT / "tests", "test_*.py").keys()
    assert len(NAMED) == len(set(NAMED)) > 100


def test_every_test_of_a_class_is_named_and_says_in_one_line_how_it_went_wrong() -> None:
    ours = named_in(HERE, "test_?_*.py")
    assert ours.keys() <= set(NAMED)
    assert [name for name, words in ours.items() if not words or "\n" in words] == []
