"""What ``from pytest_kube import …`` gives."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

import pytest_kube


@pytest.mark.parametrize("name", sorted(pytest_kube.__all__))
def test_public_name_resolves(name: str) -> None:
    """Each name is what its module calls so."""
    module = importlib.import_module(f"pytest_kube.{pytest_kube._HOME[name]}")

    assert getattr(pytest_kube, name) is getattr(module, name)


def test_no_module_hides_a_public_name() -> None:
    """Importing a module of the package sets an attribute of the package."""
    modules = {module.name for module in pkgutil.iter_modules(pytest_kube.__path__)}

    assert modules & set(pytest_kube.__all__) == set()


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name is an ordinary error of Python."""
    text = "module 'pytest_kube' has no attribute 'nothing'"
    with pytest.raises(AttributeError, match=re.escape(text)):
        _ = pytest_kube.nothing

    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from pytest_kube import nothing  # noqa: F401


def test_importing_the_package_imports_nothing_else() -> None:
    """The names are resolved at their first use."""
    script = (
        "import sys; before = set(sys.modules); import pytest_kube;"
        "print(*sorted(m for m in set(sys.modules) - before if 'kube' in m))"
    )

    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert shown.stdout.split() == ["pytest_kube"]
