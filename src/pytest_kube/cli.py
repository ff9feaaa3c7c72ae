"""The ``pytest-kube`` command: the binaries that clusters are made of."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kube.binaries.releases import PROGRAMS, resolve_version
from pytest_kube.binaries.store import Store
from pytest_kube.errors import KubeError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 for a failure, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KubeError as e:
        sys.stderr.write(f"pytest-kube: {e}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("pytest-kube: interrupted; nothing half-done was kept\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pytest-kube",
        description="Test Kubernetes controllers against a real control plane.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    binaries = commands.add_parser(
        "binaries", help="the programs that clusters are made of"
    )
    actions = binaries.add_subparsers(required=True, metavar="ACTION")
    for run, text in (
        (_list, "show where each program is, or that it would be fetched"),
        (_install, "find, download or build programs now rather than at first use"),
        (_path, "print the path of a program, fetching it when needed"),
    ):
        action = actions.add_parser(run.__name__.removeprefix("_"), help=text)
        action.set_defaults(run=run)
        action.add_argument(
            "--kube-version",
            default="",
            metavar="V",
            help="Kubernetes version: 1.36 or 1.36.3 (default: the newest tested)",
        )
        action.add_argument(
            "--kube-binaries",
            type=Path,
            metavar="PATH",
            help="look in this folder first",
        )
        action.add_argument(
            "--kube-offline", action="store_true", help="never download or build"
        )
        if run is _install:
            action.add_argument(
                "programs", nargs="*", metavar="PROGRAM", help="default: all of them"
            )
        if run is _path:
            action.add_argument("program", choices=PROGRAMS, metavar="PROGRAM")
    return parser


def _store(arguments: argparse.Namespace) -> Store:
    return Store(
        resolve_version(arguments.kube_version),
        explicit=arguments.kube_binaries,
        offline=arguments.kube_offline,
    )


def _list(arguments: argparse.Namespace) -> int:
    for name, version, path, origin in _store(arguments).rows():
        where = f"{path}  ({origin})" if path else f"not here yet  ({origin})"
        sys.stdout.write(f"{name:24} {version:10} {where}\n")
    return 0


def _install(arguments: argparse.Namespace) -> int:
    unknown = sorted(set(arguments.programs) - set(PROGRAMS))
    if unknown:
        sys.stderr.write(
            f"pytest-kube: no such program: {', '.join(unknown)}; "
            f"there are: {', '.join(PROGRAMS)}\n"
        )
        return 2
    names = arguments.programs or [n for n in PROGRAMS if n != "kind"]
    for name, path in _store(arguments).require(*names).items():
        sys.stdout.write(f"{name:24} {path}\n")
    return 0


def _path(arguments: argparse.Namespace) -> int:
    path = _store(arguments).require(arguments.program)[arguments.program]
    sys.stdout.write(f"{path}\n")
    return 0
