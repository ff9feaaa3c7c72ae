"""The calls that a test made, as texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_kube.conditions import condition
from pytest_kube.steps import AT_MOST, Steps, call, step


class Kube:
    """Something that a test calls."""

    def __init__(self) -> None:
        self.steps = Steps()

    @step
    def apply(self, what: Any, *, force: bool = False) -> Any:
        """Do something."""
        return what() if callable(what) else (what, force)


def test_call_is_noted_with_its_end() -> None:
    """What it returns is returned."""
    kube = Kube()

    assert kube.apply("a", force=True) == ("a", True)

    (one,) = kube.steps.all()
    assert (one.number, one.text, one.error) == (1, "kube.apply('a', force=True)", "")
    assert one.ended is not None
    assert one.began <= one.ended


def test_what_it_raises_is_noted_in_a_line() -> None:
    """And raised."""
    kube = Kube()

    def broken() -> None:
        raise LookupError("first\nsecond")

    with pytest.raises(LookupError, match="first\nsecond"):
        kube.apply(broken)

    (one,) = kube.steps.all()
    assert one.error == "LookupError: first"


def test_calls_within_a_call_are_its_own_affair() -> None:
    """A wait asks many times."""
    kube = Kube()

    kube.apply(lambda: kube.apply("inner"))
    kube.apply("next")

    assert [s.number for s in kube.steps.all()] == [1, 2]
    assert kube.steps.all()[1].text == "kube.apply('next')"


def test_loop_of_a_test_does_not_fill_the_memory() -> None:
    """The last calls are kept, and know their number."""
    kube = Kube()

    for _ in range(AT_MOST + 1):
        kube.apply("again")

    assert len(kube.steps.all()) == AT_MOST
    assert kube.steps.all()[0].number == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"kind": "Secret", "metadata": {"name": "s"}, "data": {}}, "<Secret s>"),
        ({"kind": "Pod", "metadata": {"generateName": "web-"}}, "<Pod web->"),
        ({"spec": {"token": "t0p"}}, "{spec: …}"),
        ("kind: Secret\ndata: {a: b}\n", "<3 lines>"),
        (Path("config/crd.yaml"), "'config/crd.yaml'"),
        (["a", {"metadata": {"name": "b"}}, 1, 2], "['a', <object b>, 1, …]"),
        (condition("Ready"), "Ready=True"),
        (len, "len"),
        ("x" * 100, f"'{'x' * 27}...{'x' * 28}'"),
        (None, "None"),
    ],
)
def test_argument_says_which_and_not_what(value: Any, text: str) -> None:
    """What an object holds may be secret, and is long."""
    assert call("f", [value], {}) == f"f({text})"
