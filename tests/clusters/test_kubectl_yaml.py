"""kubectl as the judge of how we read and write YAML; no cluster is needed."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import ManifestError
from pytest_kube.manifests import dump, load

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: x, labels: {a: b}}\n"

LINES = """\
= 10:30 1:30:45 190:20:30.15 2026-01-01 2026-01-01T00:00:00Z 2001-12-14t21:59:43.10-05:00
1e3 1.5e3 1e+3 1E3 12e03 1e-7 1.5e-3 1e18 1e19 1e21 1e400 1e .5 5. 1. +.5 -.5 .5_0 .5e3
. + 0.1 0.1.2 1.0 0.0 -0 -0.0 0 00 +1 -1 --1 123456789.5 100000000000000000000000.5
0o777 0O17 0o17 -0o17 0o1_7 0o8 0o 0777 -0777 0_7 07_8 08 0789 09.5 0777.5
0x1F 0X1F -0x1f +0x1 0x_1 0x 0x1p-2 0xffffffffffffffff 0xffffffffffffffffff
0b11 0B11 -0b11 +0b1 -0b1_1 0b2 0b1e1 1_000 1_000.5 1__0 _1 0_ 1_0e3 685_230.15
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
18446744073709551615 18446744073709551616 99999999999999999999999999
y Y n N yes Yes YES yEs no No on On ON oN off Off true True TRUE tRue false
null Null NULL nUll ~ << -- a=b a#b ٣ 1,5 1.2.3.4 v1 100m 1Gi
"""
SCALARS = LINES.split()

VALUES = [
    *SCALARS,
    "",
    "''",
    "'y'",
    '"1e3"',
    "!!str 123",
    "!!str",
    "!!str yes",
    '!!int "5"',
    '!!int "0x10"',
    "!!float 5",
    '!!float "1e3"',
    '!!bool "yes"',
    '!!null ""',
    "!!binary aGVsbG8=",
    '!!binary "/w=="',
    "!!timestamp 2026-01-01",
    "!custom 12",
    "!custom {a: 1}",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "{1: a, y: b, 0777: c, 1.5: d, =: e, 10:30: f, '': g}",
    '"a\\n\\n  b \\x85 \\u2028 \\U0001f600"',
    "|\n    ---\n    x\n",
    ">-\n    folded\n    text\n\n    more",
    "&a {x: [1, *b]}",
]


def as_kubectl_reads(kubectl: Path, source: str, file: Path) -> Any:
    """Return what kubectl made of the text."""
    file.write_text(source, encoding="utf-8")
    shown = subprocess.run(
        [kubectl, "label", "--local", "-f", file, "a=b", "--overwrite", "-o", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(shown.stdout)


def numbers(value: Any) -> Any:
    """Return numbers beyond 64 bits as floats: Go prints these with all digits."""
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    beyond = type(value) is int and not -(2**63) <= value < 2**63
    return float(value) if beyond else value


def exact(value: Any) -> str:
    """Return text that differs when a value or its type does, but not by order."""
    return json.dumps(value, sort_keys=True)


def test_every_scalar_is_read_as_by_kubectl(kubectl: Path, tmp_path: Path) -> None:
    """Value and type of each scalar equal what kubectl would send."""
    lines = [f"  v{n}: {value}" for n, value in enumerate(VALUES)]
    source = "\n".join([HEAD, "anchored: &b 1e3", "data:", *lines, ""])

    (ours,) = load(source)
    theirs = numbers(as_kubectl_reads(kubectl, source, tmp_path / "x.yaml"))

    different = [
        (value, ours["data"][f"v{n}"], theirs["data"][f"v{n}"])
        for n, value in enumerate(VALUES)
        if exact(ours["data"][f"v{n}"]) != exact(theirs["data"][f"v{n}"])
    ]
    assert different == []


def test_merge_keys_are_read_as_by_kubectl(kubectl: Path, tmp_path: Path) -> None:
    """Where a merge stands decides what wins."""
    source = HEAD + (
        "b: &b {x: 1, w: 1}\nc: &c {x: 2, z: 3}\nafter: {x: 9, <<: *b}\n"
        "before: {<<: *b, x: 9}\nboth: {<<: [*b, *c]}\ntwice: {<<: *b, <<: *c}\n"
        "text: {'<<': *b}\ninline: {<<: {k: v}}\n"
    )

    assert load(source) == [as_kubectl_reads(kubectl, source, tmp_path / "x.yaml")]


@pytest.mark.parametrize(
    "wrong",
    [
        "a: .inf",
        "a: -.INF",
        "a: .nan",
        "a: {null: b}",
        "a: {[b]: c}",
        "a: !!int x",
        "a: !!int 1.5",
        "a: !!bool maybe",
        "a: !!null x",
        "a: !!binary x",
        "a: &a [*a]",
        "a: *unknown",
        "a: {<<: 3}",
        "a:\n\tb: 1",
        "a: b: c",
        "a: @b",
        "a: [1",
        "a: '\x07'",
    ],
)
def test_what_kubectl_refuses_is_an_error(
    kubectl: Path, tmp_path: Path, wrong: str
) -> None:
    """Nothing slips through here that kubectl would not take."""
    with pytest.raises(subprocess.CalledProcessError):
        as_kubectl_reads(kubectl, f"{HEAD}{wrong}\n", tmp_path / "x.yaml")
    with pytest.raises(ManifestError):
        load(f"{HEAD}{wrong}\n")


def test_what_is_dumped_kubectl_reads_back(kubectl: Path, tmp_path: Path) -> None:
    """Each tricky text stays the text it was, as a value and as a key."""
    texts = [
        *SCALARS,
        *("", " ", "a ", " a", "a: b", "- a", "# a", "a #b", "---", "...", "%a", "@a"),
        *("`a", "&a", "*a", "!a", "|", ">", "{}", "[]", "'", '"', "\\", "?", ":", ","),
        *(
            "\n",
            "a\n",
            "a\n\n",
            "\na",
            "a\nb",
            " a\nb",
            "a\n b\n",
            "a \nb",
            "\t",
            "a\tb",
        ),
        *("\ta\nb", "a\r\nb", "a\rb", "\x07", "\x7f", "\x85", "a\u2028b", "\ufeffa"),
        *("é", "日本", "\U0001f600", "\U0001f600\nb", "x" * 300, "a b " * 100),
    ]
    (obj,) = load(HEAD)
    obj["values"] = [*texts, 1, -1, 0.5, 1e21, 1e-7, True, None, {}, [], [[1]], [{}]]
    obj["keys"] = dict.fromkeys(texts, 1)

    source = dump(obj)

    assert load(source) == [obj]
    assert as_kubectl_reads(kubectl, source, tmp_path / "x.yaml") == obj
