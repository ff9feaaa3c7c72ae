"""The report of a test as a browser shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.diagnostics import report, timeline
from pytest_kube.diagnostics.timeline import Entry
from pytest_kube.history import Version
from pytest_kube.objects import Object

if TYPE_CHECKING:
    from .headless import Browser

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ATTACK = (
    "</script><img src=x onerror='window.attacked = 1'><script>attacked = 1</script>"
)
TEXT = ".entry .text"


def widget(name: str, **spec: Any) -> Object:
    metadata = {
        "name": name,
        "namespace": "default",
        "creationTimestamp": START.isoformat(),
        "annotations": {"note": ATTACK},
    }
    return Object(
        apiVersion="example.com/v1", kind="Widget", metadata=metadata, spec=spec
    )


def versions(count: int = 2, objects: int = 1) -> list[Version]:
    """Return changes of some widgets, one after the other."""
    found: list[Version] = []
    for i in range(count):
        time = START + timedelta(seconds=i)
        previous = found[i - objects].object if i >= objects else None
        obj = widget(f"w-{i % objects}", size=i, script="a\nb\n", image="x:1")
        found.append(Version(obj, previous, 100 + i, time.isoformat(), lambda *_: None))
    return found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The report of a test in which a widget changed, and others meant harm."""
    path = tmp_path / report.NAME
    changes = versions()
    others = [
        Entry(START, "request", "operator", "", "patch widgets default/w-0: 409"),
        Entry(START, "log", "operator", "", f"\x1b[31mred\x1b[0m \x07{ATTACK}"),
        Entry(START, "event", ATTACK, f"Widget {ATTACK}", ATTACK),
    ]
    report.write(
        path,
        test=f"test_it[{ATTACK}]",
        outcome="failed",
        about={"cluster": "kwok", "note": ATTACK},
        entries=[*timeline.merged(changes, [], [], []), *others],
        versions=changes,
        logs={"operator": f"\x1b[31mred\x1b[0m\n{ATTACK}", ATTACK: ATTACK},
    )
    return path


def test_what_happened_is_shown(browser: Browser, page: Path) -> None:
    """Rows stand in order, and terminal escapes have lost their power."""
    browser.open(page)

    assert browser.texts(TEXT)[:4] == [
        "created",
        "changed spec.size: 0 -> 1",
        "patch widgets default/w-0: 409",
        f"red ␇{ATTACK}",
    ]
    assert browser.texts("h1") == [f"failed test_it[{ATTACK}]"]


def test_nothing_that_others_wrote_runs(browser: Browser, page: Path) -> None:
    """On no page; nor does any page ask for anything, or complain."""
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.wait("document.querySelector('.diff')")
    for address, shown in (
        ("#/objects", ".objects p"),
        ("#/object/Widget/default/w-0", ".version .diff"),
        (f"#/logs/{ATTACK}", "pre.log"),
        (f"#/object/{ATTACK}", "h2"),
        (f"#/?text={ATTACK}", ".timeline"),
    ):
        browser.go(address)
        browser.wait(f"document.querySelector('{shown}')")

    assert browser.run("window.attacked") is None
    assert browser.run("document.images.length") == 0
    assert browser.complaints == []
    assert set(browser.requested) <= {"about:blank", page.as_uri()}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("#/?kind=request", ["patch widgets default/w-0: 409"]),
        ("#/?kind=change&text=SIZE", ["changed spec.size: 0 -> 1"]),
        ("#/?object=default/w-0", ["created", "changed spec.size: 0 -> 1"]),
        ("#/?who=operator&kind=request", ["patch widgets default/w-0: 409"]),
        ("#/?text=nowhere", []),
    ],
)
def test_filters_stand_in_the_address(
    browser: Browser, page: Path, address: str, expected: list[str]
) -> None:
    """A link shows what it was made for, and the form says what is filtered."""
    browser.open(page, address)

    assert browser.texts(TEXT) == expected
    assert browser.texts("output") == [f"{len(expected)} of 5 lines"]


def test_what_is_typed_filters_at_once(browser: Browser, page: Path) -> None:
    """The rows follow, and so does the address."""
    browser.open(page)
    browser.run("document.querySelector('[name=text]').focus()")
    browser.send("Input.insertText", text="409")

    assert browser.texts(TEXT) == ["patch widgets default/w-0: 409"]
    assert browser.run("location.hash") == "#/?text=409"


def test_a_row_opens_by_the_keyboard(browser: Browser, page: Path) -> None:
    """It shows what differs, below the keys that it stands under."""
    browser.open(page)
    browser.run("document.querySelectorAll('.entry summary')[1].focus()")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('.diff')")

    assert browser.texts(".diff del") == ["-   size: 0\n"]
    assert browser.texts(".diff ins") == ["+   size: 1\n"]
    assert "  spec:\n" in browser.texts(".diff span")


def test_an_object_has_a_page(browser: Browser, page: Path) -> None:
    """All its versions are there, as YAML, and what differs between them."""
    browser.open(page, "#/object/Widget/default/w-0")
    browser.wait("document.querySelector('.version del')")

    assert browser.texts(".version b") == ["revision 100", "revision 101"]
    assert "spec:\n  size: 0\n  script: |\n    a\n    b\n" in browser.texts("pre")[0]
    assert browser.texts(".version .text") == ["created", "changed spec.size: 0 -> 1"]


def test_ten_thousand_changes_are_all_there(browser: Browser, tmp_path: Path) -> None:
    """The first rows are shown before the others are made."""
    path, changes = tmp_path / report.NAME, versions(10_000, objects=500)
    report.write(
        path,
        test="test_it",
        outcome="failed",
        about={},
        entries=timeline.merged(changes, [], [], []),
        versions=changes,
        logs={},
    )
    browser.open(path)
    browser.wait("document.documentElement.dataset.complete")

    assert len(browser.texts(".entry")) == 10_000


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_sticks_out(
    browser: Browser, page: Path, tmp_path: Path, width: int, *, dark: bool
) -> None:
    """Narrow or wide, light or dark: the page is as wide as the window."""
    browser.look(width=width, dark=dark)
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.wait("document.querySelector('.diff')")
    browser.screenshot(tmp_path / "report.png")  # of the last runs pytest keeps them

    assert browser.run("document.documentElement.scrollWidth") <= width
    back = browser.run("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
