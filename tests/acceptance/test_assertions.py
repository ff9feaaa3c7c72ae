"""What pytest shows of a failed comparison, and when waits end in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Project

MAPS = """
import copy, pytest

def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": data}
"""


def test_failed_comparison_of_objects_shows_what_differs(project: Project) -> None:
    """Path by path, without what the API server sets by itself."""
    project.ini()
    project.test(
        MAPS
        + """
def test_same(kube):
    one, other = kube.apply(config_map("a", x="1")), kube.apply(config_map("b", x="2"))
    assert one == other

def test_noise(kube):
    one = kube.apply(config_map("a", x="1"))
    kube.delete(one)
    assert kube.apply(config_map("a", x="1")) == one

def test_absent(kube):
    assert kube.find("cm/never") == kube.apply(config_map("a"))

def test_plain(kube):
    assert kube.apply(config_map("a", x="1"))["data"] == {"x": "2"}
"""
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "E *assert ConfigMap a == ConfigMap b",
            'E *metadata.name: "a" != "b"',
            'E *data.x: "1" != "2"',
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(
        [
            "E *assert ConfigMap a == ConfigMap a",
            'E *metadata.uid: "*" != "*"',
            "E *(nothing differs but what the API server sets by itself)",
        ]
    )
    result.stdout.fnmatch_lines(["E *assert None == ConfigMap a"])
    result.stdout.fnmatch_lines(["E *AssertionError: assert {'x': '1'} == {'x': '2'}"])


def test_wait_ends_before_pytest_timeout_ends_the_test(project: Project) -> None:
    """Its text is what a developer needs, not the stack of all threads."""
    project.ini()
    project.test(
        MAPS
        + """
@pytest.mark.timeout(2)
def test_marker(kube):
    kube.wait_for("cm/never", "create", timeout=30)

@pytest.mark.timeout(2, func_only=True)
def test_function_only(kube):
    kube.wait_for("cm/never", "create", timeout=30)

def test_option(kube):
    kube.wait_for("cm/never", "create", timeout=30)

@pytest.mark.timeout(0)
def test_none(kube):
    assert kube.deadline is None
"""
    )

    result = project.run("--kube=envtest", "--timeout=3")

    result.assert_outcomes(failed=3, passed=1)
    text = "instead of 30, for then pytest-timeout would end the test"
    result.stdout.fnmatch_lines(
        [f"E *WaitTimeoutError: *exists not reached within 1.* {text}"] * 2
        + [f"E *WaitTimeoutError: *exists not reached within 2.* {text}"]
    )


def test_without_pytest_timeout_nothing_is_cut_short(project: Project) -> None:
    """The plugin is nobody's requirement."""
    project.ini()
    project.test("def test_none(kube):\n    assert kube.deadline is None\n")

    result = project.run("--kube=envtest", "-p", "no:timeout")

    result.assert_outcomes(passed=1)
