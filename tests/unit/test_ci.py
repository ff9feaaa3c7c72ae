"""What CI systems show of failed tests: hostile texts stay texts."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pytest_kube.diagnostics import ci

FAILURE = ci.Failure(
    test="tests/test_w.py::test_a",
    cluster="envtest cluster, Kubernetes v1.36.3",
    folder=Path("/repo/artifacts/tests-test_w.py.test_a"),
    time=datetime(2026, 11, 23, 13, tzinfo=UTC),
    error="WaitTimeoutError: not reached\n  because",
    diagnostics="cluster     envtest\nartifacts   there",
    file="tests/test_w.py",
    line=7,
)
HOSTILE = "a`` ``` b](x)\x1b[31m\n# no\r\n::error::no\u2028</td> 100%, c: \u202ed\x00"


def test_summary_is_a_heading_and_a_block(tmp_path: Path) -> None:
    """Appended to what other steps of the same job have written."""
    path = tmp_path / "summary.md"
    path.write_text("# before\n")

    ci.add_to_summary(path, FAILURE)

    assert path.read_text() == (
        "# before\n"
        "\n"
        "### `tests/test_w.py::test_a`\n"
        "\n"
        "```text\n"
        "WaitTimeoutError: not reached\n"
        "\n"
        "cluster     envtest\n"
        "artifacts   there\n"
        "```\n"
    )


def test_nothing_in_a_test_ends_its_block_or_heading(tmp_path: Path) -> None:
    """The fence is longer than every run of backticks; no escapes are left."""
    failure = replace(FAILURE, test=HOSTILE, error=HOSTILE, diagnostics=HOSTILE)

    ci.add_to_summary(tmp_path / "summary.md", failure)

    text = (tmp_path / "summary.md").read_text("utf-8")
    _, heading, _, fence, *block, end, _ = text.split("\n")
    assert heading == "### ````a`` ``` b](x) # no ::error::no </td> 100%, c: d````"
    assert (fence, end) == ("````text", "````")
    assert not any(line.startswith("````") for line in block)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)


def test_summary_stays_below_the_limit_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub would refuse the whole of it."""
    monkeypatch.setattr(ci, "SUMMARY_LIMIT", 500)
    path = tmp_path / "summary.md"

    for _ in range(10):
        ci.add_to_summary(path, FAILURE)

    text = path.read_text()
    assert text.count("### ") == 3
    assert text.count(ci.SUMMARY_FULL) == 1
    assert text.endswith(ci.SUMMARY_FULL)
    assert path.stat().st_size <= 500


def test_summary_that_is_full_already_is_left_alone(tmp_path: Path) -> None:
    """Whoever filled it."""
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * ci.SUMMARY_LIMIT)

    ci.add_to_summary(path, FAILURE)

    assert path.stat().st_size == ci.SUMMARY_LIMIT


def test_error_command_names_file_line_and_error() -> None:
    """And where the artifacts are, by the name that they have in the upload."""
    assert ci.error_command(FAILURE) == (
        "::error file=tests/test_w.py,line=7,title=tests/test_w.py%3A%3Atest_a::"
        "WaitTimeoutError: not reached%0Akube artifacts: tests-test_w.py.test_a"
    )


def test_error_command_is_one_command_whatever_the_test_is_called() -> None:
    """Escaped as GitHub reads it: percent, line breaks, colons, commas."""
    failure = replace(
        FAILURE, test="a\n::warning::b,line=9%0A", error="100%\r\n::x::", folder=None
    )

    assert ci.error_command(failure) == (
        "::error file=tests/test_w.py,line=7,"
        "title=a%0A%3A%3Awarning%3A%3Ab%2Cline=9%250A::100%25"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\n  first \nsecond", "first"),
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07", "red link"),
        ("e" * 301, "e" * 299 + "…"),
        ("", ""),
        ("\ud800x", "x"),
    ],
)
def test_one_line_of_an_error(text: str, expected: str) -> None:
    """The first that says something, short, without escapes."""
    assert ci.one_line(text) == expected


def test_index_lists_each_test_for_people_and_programs(tmp_path: Path) -> None:
    """One entry after the other; the first one of a run begins anew."""
    other = replace(FAILURE, test=HOSTILE)
    ci.add_to_index(tmp_path, other, new=True)

    ci.add_to_index(tmp_path, FAILURE, new=True)
    ci.add_to_index(tmp_path, other, new=False)

    first, second = (tmp_path / "index.jsonl").read_text().splitlines()
    assert json.loads(first) == {
        "test": "tests/test_w.py::test_a",
        "folder": "tests-test_w.py.test_a",
        "cluster": "envtest cluster, Kubernetes v1.36.3",
        "time": "2026-11-23T13:00:00+00:00",
        "error": "WaitTimeoutError: not reached",
    }
    assert json.loads(second)["test"] == HOSTILE
    assert (tmp_path / "index.md").read_text("utf-8") == (
        "# Failed tests\n"
        "\n"
        "- [`tests/test_w.py::test_a`](tests-test_w.py.test_a/)\n"
        "  `envtest cluster, Kubernetes v1.36.3`, 2026-11-23 13:00:00 UTC\n"
        "  `WaitTimeoutError: not reached`\n"
        "- [````a`` ``` b](x) # no ::error::no </td> 100%, c: d````]"
        "(tests-test_w.py.test_a/)\n"
        "  `envtest cluster, Kubernetes v1.36.3`, 2026-11-23 13:00:00 UTC\n"
        "  `WaitTimeoutError: not reached`\n"
    )


def test_index_that_is_not_ours_is_neither_replaced_nor_removed(
    tmp_path: Path,
) -> None:
    """The folder may be one of somebody's documents."""
    (tmp_path / "index.md").write_text("# My project\n")

    ci.remove_index(tmp_path)
    with pytest.raises(FileExistsError, match="somebody else's file is there"):
        ci.add_to_index(tmp_path, FAILURE, new=True)

    assert (tmp_path / "index.md").read_text() == "# My project\n"


def test_index_of_an_earlier_run_is_removed(tmp_path: Path) -> None:
    """Its tests may have passed since."""
    ci.add_to_index(tmp_path, FAILURE, new=True)

    ci.remove_index(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_attachments_are_what_people_open_first(tmp_path: Path) -> None:
    """After what the test printed itself; a folder that is gone has none."""
    folder = tmp_path / "out" / "t"
    (folder / "logs").mkdir(parents=True)
    for name in ("state.jsonl.gz", "timeline.html", "events.txt", "objects.yaml"):
        (folder / name).touch()
    properties = '<properties><property name="kube_artifacts" value="{}"/></properties>'
    report = tmp_path / "report.xml"
    report.write_text(
        f'<testsuites><testcase name="a&lt;b">{properties.format("out/t")}'
        "<system-out>printed</system-out></testcase>"
        f"<testcase>{properties.format('out/gone')}</testcase><testcase/></testsuites>"
    )

    ci.attach(report, root=tmp_path, project=tmp_path)

    one, two, three = ET.parse(report).iter("testcase")  # noqa: S314  # ours
    assert one.get("name") == "a<b"
    assert (one.findtext("system-out") or "").split("\n") == [
        "printed",
        "[[ATTACHMENT|out/t/timeline.html]]",
        "[[ATTACHMENT|out/t/events.txt]]",
        "[[ATTACHMENT|out/t/objects.yaml]]",
        "[[ATTACHMENT|out/t/state.jsonl.gz]]",
    ]
    assert not two.findtext("system-out")
    assert three.find("system-out") is None
