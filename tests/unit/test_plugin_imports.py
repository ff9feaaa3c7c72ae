"""What the plugin costs those who have it installed and do not use it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

IMPORT = """\
import sys
import pytest
before = set(sys.modules)
import pytest_kube.plugin
print(*sorted(set(sys.modules) - before))
"""

RUN = """\
import sys
import pytest
code = pytest.main(sys.argv[1:])
print()
print(*sorted(sys.modules))
sys.exit(code)
"""

HEAVY = {
    "asyncio",
    "cryptography",
    "docker",
    "filelock",
    "kopf",
    "kubernetes",
    "tenacity",
    "urllib3",
    "yaml",
}


def modules_of(folder: Path, script: str, *arguments: str) -> set[str]:
    """Return the modules that the last line of a script's output names."""
    shown = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stdout.splitlines()[-1].split())


def foreign(modules: set[str]) -> set[str]:
    """Return the packages that are neither Python's nor ours."""
    roots = {name.partition(".")[0] for name in modules}
    return {
        root for root in roots - {"pytest_kube"} if root not in sys.stdlib_module_names
    }


def test_importing_the_plugin_imports_pytest_only(tmp_path: Path) -> None:
    """Every run of everybody imports it; it costs no package, and no asyncio."""
    imported = modules_of(tmp_path, IMPORT)

    assert "pytest_kube.plugin" in imported
    assert foreign(imported) == set()
    assert imported & HEAVY == set()


@pytest.mark.parametrize("options", [["--co"], []], ids=["collect", "run"])
def test_run_without_the_option_imports_no_more_than_pytest_does(
    tmp_path: Path, options: list[str]
) -> None:
    """A project that does not test against clusters does not notice the plugin."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    arguments = ["-q", "-p", "no:cacheprovider", *options, str(tmp_path)]

    alone = modules_of(tmp_path, RUN, *arguments)
    found = modules_of(tmp_path, RUN, "-p", "pytest_kube.plugin", *arguments)

    assert "pytest_kube.plugin" in found
    assert foreign(found - alone) == set()
    assert (found - alone) & HEAVY == set()
