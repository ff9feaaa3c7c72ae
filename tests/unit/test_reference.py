"""The pages in docs/ are those that the code makes, and leave nothing out."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import pytest_kube
from pytest_kube import fixtures, plugin
from pytest_kube.kube import Kube

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference.md").read_text("utf-8")
HEADINGS = re.findall(r"^##+ `?(.*?)`?$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date(
    generate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else: python docs/generate.py."""
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_pages_out_of_date_are_noticed_and_written(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check writes nothing; without it the pages are written once."""
    monkeypatch.setattr(generate, "DOCS", tmp_path)

    assert generate.main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []

    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert (tmp_path / "reference.md").read_text("utf-8") == PAGE


@pytest.mark.parametrize("name", [*pytest_kube.__all__, *fixtures.NAMES])
def test_name_has_an_entry(name: str) -> None:
    """What can be imported, and what a test can ask for."""
    assert name in HEADINGS


def test_methods_of_the_handle_have_entries_with_signatures() -> None:
    """Every public one, as it is called."""
    methods = dict(inspect.getmembers(Kube, inspect.isfunction))
    public = {name for name in methods if not name.startswith("_")}
    section = PAGE.partition("\n## Kube\n")[2].partition("\n## ")[0]

    assert public == set(re.findall(r"^```python\n(\w+)\(", section, re.MULTILINE))


def test_options_have_rows() -> None:
    """With their environment variables and ini values; ini values without an option."""
    asked: list[str] = []
    group = SimpleNamespace(addoption=lambda option, **_: asked.append(option))
    parser: Any = SimpleNamespace(
        getgroup=lambda *_: group, addini=lambda name, *_, **__: asked.append(name)
    )
    plugin.pytest_addoption(parser)

    for name in asked:
        assert re.search(rf"^\|.* `{name}[=`]", PAGE, re.MULTILINE)
        if name.startswith("--"):
            variable = name[2:].replace("-", "_").upper()
            assert f" `PYTEST_{variable}` " in PAGE


def test_nothing_depends_on_the_run_that_made_it() -> None:
    """Neither addresses of objects, nor private names, nor leftovers of reST."""
    assert " at 0x" not in PAGE
    assert "``" not in PAGE.replace("```", "")
    assert not re.search(r"^_|= _|:\w+:`", PAGE, re.MULTILINE)
