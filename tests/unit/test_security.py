"""SECURITY.md promises nothing that no test checks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(
    r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text("utf-8")
)


def test_each_test_that_is_named_exists() -> None:
    """A test that is renamed is renamed there, too."""
    missing = [
        f"{file}::{test}"
        for file, test in NAMED
        if f"def {test}" not in (ROOT / file).read_text("utf-8")
    ]

    assert len(NAMED) > 10
    assert missing == []
