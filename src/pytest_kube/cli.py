"""The ``pytest-kube`` command: clusters that stay, and what they are made of."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kube import profiles
from pytest_kube.binaries.releases import PROGRAMS, PROGRAMS_OF, resolve_version
from pytest_kube.binaries.store import Store, cache_key, programs_folder
from pytest_kube.errors import ClusterError, KubeError, SettingsError
from pytest_kube.kubebuilder import start_timeout
from pytest_kube.settings import IDLE, START_TIMEOUT, Settings
from pytest_kube.system.kept import Kept, end, kept, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kube.cluster import Provider

_NAME: dict[str, Any] = {
    "metavar": "NAME",
    "help": "a profile (clusters/NAME.yaml) or a provider (kwok, envtest, kind)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 for a failure, 2 for wrong usage."""
    words, command = _split(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    arguments = parser.parse_args(words)
    if command and arguments.run is not _replay:
        parser.error(f"-- {' '.join(command)}: only replay runs a command")
    arguments.command = command
    try:
        return int(arguments.run(arguments))
    except KubeError as e:
        sys.stderr.write(f"pytest-kube: {e}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("pytest-kube: interrupted; nothing half-done was kept\n")
        return 130


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our own words, and what follows the first ``--``."""
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pytest-kube",
        description="Test Kubernetes controllers against a real control plane.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, text in (
        (_up, "start a cluster that stays, for pytest --kube-reuse and kubectl"),
        (_down, "end clusters that stay"),
        (_status, "show the clusters that stay"),
        (_kubeconfig, "print the path of a cluster's kubeconfig"),
    ):
        command = commands.add_parser(
            run.__name__.removeprefix("_"), help=text, description=run.__doc__
        )
        command.set_defaults(run=run)
        if run is _up:
            command.add_argument("name", nargs="?", default="kwok", **_NAME)
            command.add_argument(
                "--idle",
                type=_minutes,
                default=IDLE / 60,
                metavar="MINUTES",
                help="end it after this long without use (default: %(default)g)",
            )
            _add_programs(command)
        elif run is not _status:
            command.add_argument("name", nargs="?", **_NAME)
    _add_doctor(
        commands.add_parser(
            "doctor",
            help="say what each provider needs and lacks, and what to do",
            description=_doctor.__doc__,
        )
    )
    _add_replay(
        commands.add_parser(
            "replay",
            help="run an API server on the archived state of a failed test",
            description=_replay.__doc__,
            usage="%(prog)s [OPTION…] ARTIFACT [-- COMMAND…]",
        )
    )
    binaries = commands.add_parser(
        "binaries", help="the programs that clusters are made of"
    )
    actions = binaries.add_subparsers(required=True, metavar="ACTION")
    for run, text in (
        (_list, "show where each program is, or that it would be fetched"),
        (_install, "find, download or build programs now rather than at first use"),
        (_path, "print the path of a program, fetching it when needed"),
        (_key, "print a CI cache's key for what install would fetch; fetches nothing"),
        (_folder, "print the folder that install fills, for a CI cache"),
    ):
        action = actions.add_parser(run.__name__.removeprefix("_"), help=text)
        action.set_defaults(run=run)
        if run in (_list, _path):
            _add_programs(action)
        if run is _install:
            _add_programs(action, metavar="V[,V]")
        if run is _key:
            _add_version(action, metavar="V[,V]")
        if run in (_install, _key):
            action.add_argument(
                "--kube",
                metavar="NAME",
                help="take the programs and the version of this profile or provider",
            )
            action.add_argument(
                "programs",
                nargs="*",
                metavar="PROGRAM",
                help="default: those of --kube, else all but kind",
            )
        if run is _path:
            action.add_argument("program", choices=PROGRAMS, metavar="PROGRAM")
    return parser


def _add_version(
    parser: argparse.ArgumentParser,
    default: str = "the newest tested",
    metavar: str = "V",
) -> None:
    parser.add_argument(
        "--kube-version",
        default="",
        metavar=metavar,
        help=f"Kubernetes version: 1.36 or 1.36.3 (default: {default})",
    )


def _add_programs(
    parser: argparse.ArgumentParser,
    version: str = "the newest tested",
    metavar: str = "V",
) -> None:
    _add_version(parser, version, metavar)
    parser.add_argument(
        "--kube-binaries", type=Path, metavar="PATH", help="look in this folder first"
    )
    parser.add_argument(
        "--kube-offline", action="store_true", help="never download or build"
    )


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_doctor)
    about = "a profile (clusters/NAME.yaml) or a provider (default: every provider)"
    parser.add_argument("name", nargs="?", metavar="NAME", help=about)
    parser.add_argument(
        "--kube-context",
        default="",
        metavar="NAME",
        help="of an existing cluster, which is asked then",
    )
    parser.add_argument(
        "--kube-config", default="", metavar="FILE", help="the kubeconfig file of it"
    )
    _add_programs(parser)


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_replay)
    parser.add_argument(
        "artifact",
        type=Path,
        metavar="ARTIFACT",
        help="the folder of artifacts of the test, or the state.jsonl.gz in it",
    )
    parser.add_argument(
        "--at",
        default="",
        metavar="MOMENT",
        help="the state to begin with: a revision (74), after a step of the test "
        "(step:3), a time since the test began (+1.5s), or a time (13:43:36.401, in "
        "UTC) (default: the last one; with --until the first one)",
    )
    parser.add_argument(
        "--until",
        default="",
        metavar="MOMENT",
        help="make all changes up to that moment, one after the other",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="N",
        help="with --until, as fast as they were made, times N, while the COMMAND "
        "runs (default: all at once, before it runs)",
    )
    parser.add_argument(
        "--diff",
        nargs=2,
        metavar="MOMENT",
        help="print what differs between two moments, and start nothing",
    )
    _add_programs(parser, "that of the archive")


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise ValueError(text)
    return minutes


_minutes.__name__ = "minutes above 0"  # what argparse calls it in its error


def _speed(text: str) -> float:
    return _minutes(text)


_speed.__name__ = "number above 0"


# --- clusters that stay -------------------------------------------------------


def _up(arguments: argparse.Namespace) -> int:
    """Start a cluster that stays until nobody has used it for a while.

    pytest --kube=NAME --kube-reuse uses it, rolled back to what it is now.
    """
    profile = profiles.find(arguments.name, Path("clusters"))
    settings = Settings(
        profile,
        version=arguments.kube_version or profile.version,
        binaries=arguments.kube_binaries,
        offline=arguments.kube_offline,
        start_timeout=start_timeout(os.environ) or START_TIMEOUT,
        reuse=True,
        idle=arguments.idle * 60,
    )
    resolve_version(settings.version)
    provider: Provider = profiles.providers()[profile.provider].load()
    with provider(profile, settings, _tell) as cluster:
        name, kubeconfig = cluster.name, cluster.kubeconfig
    sys.stdout.write(
        f"{name}; ends after {arguments.idle:g} minutes without use\n"
        f"export KUBECONFIG={kubeconfig}\n"
    )
    return 0


def _down(arguments: argparse.Namespace) -> int:
    """End the clusters of that name, or all of them, also while they are in use."""
    ended = [k.about["cluster"] for k in _kept(arguments.name) if end(k.directory)]
    for cluster in ended:
        sys.stdout.write(f"ended: {cluster}\n")
    if not ended:
        sys.stdout.write(f"nothing to end: {_none(arguments.name)}\n")
    return 0


def _status(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """Show the clusters that stay: name, what it is, its use, its guardian's pid."""
    for found in (clusters := _kept(None)):
        try:
            now = status(found.directory)
        except ClusterError:  # it has ended meanwhile
            continue
        left = now["idle_left"]
        use = "in use" if left is None else f"idle, ends in {left / 60:.0f} min"
        name, cluster = found.about["name"], found.about["cluster"]
        sys.stdout.write(f"{name:12} {cluster}; {use}; pid {found.pid}\n")
    if not clusters:
        sys.stdout.write(f"{_none(None)}\n")
    return 0


def _kubeconfig(arguments: argparse.Namespace) -> int:
    """Print the path of the kubeconfig of a cluster that stays."""
    for found in _kept(arguments.name):
        sys.stdout.write(f"{found.about['kubeconfig']}\n")
        return 0
    raise ClusterError(
        f"{_none(arguments.name)}; pytest-kube up {arguments.name or 'kwok'} starts one"
    )


def _kept(name: str | None) -> list[Kept]:
    """Find the clusters that stay, those of this version of ours or of others."""
    named = [k for k in kept() if {"name", "cluster", "kubeconfig"} <= k.about.keys()]
    return [k for k in named if name in (None, k.about["name"])]


def _none(name: str | None) -> str:
    return f"no cluster {name!r} stays" if name else "no cluster stays"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


# --- what there is ------------------------------------------------------------


def _doctor(arguments: argparse.Namespace) -> int:
    """Look at what NAME needs, start nothing; exit code 0 if it can be used, else 1.

    Without a NAME, it is 0 if there can be a cluster of kwok or of envtest.
    """
    from pytest_kube import doctor

    context, file = arguments.kube_context, arguments.kube_config
    name = arguments.name or ("existing" if context else "")
    profile = profiles.Profile(name="", provider="")
    if name:
        profile = profiles.find(name, Path("clusters"))
    profile = replace(
        profile,
        context=context or profile.context,
        kubeconfig=file or profile.kubeconfig,
    )
    settings = Settings(
        profile,
        version=arguments.kube_version or profile.version,
        binaries=arguments.kube_binaries,
        offline=arguments.kube_offline,
    )
    usable = doctor.examine(settings, os.environ, _say)
    _say("\nclusters that stay")
    _status(arguments)
    return 0 if usable else 1


# --- archived states ----------------------------------------------------------


def _replay(arguments: argparse.Namespace) -> int:
    """Run an API server on the state that a failed test left, or any one before.

    With a COMMAND, that is run with KUBECONFIG set, and its exit code returned. At a
    terminal, changes can be stepped through. Else it runs until it is interrupted.
    """
    from pytest_kube import terminal

    if arguments.diff:
        return terminal.diff(arguments.artifact, *arguments.diff)
    if arguments.speed and not arguments.until:
        raise SettingsError("--speed needs --until: the moment where it ends")
    version = arguments.kube_version
    return terminal.run(
        terminal.Request(
            arguments.artifact,
            at=arguments.at,
            until=arguments.until,
            speed=arguments.speed,
            command=arguments.command,
            version=resolve_version(version) if version else "",
            binaries=arguments.kube_binaries,
            offline=arguments.kube_offline,
        )
    )


# --- binaries -----------------------------------------------------------------


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
    if _unknown(arguments):
        return 2
    names, versions = _wanted(arguments)
    stores = [
        Store(v, explicit=arguments.kube_binaries, offline=arguments.kube_offline)
        for v in versions
    ]
    # Versions share programs: etcd and kwok have versions of their own.
    found = [pair for store in stores for pair in store.require(*names).items()]
    for name, path in dict.fromkeys(found):
        sys.stdout.write(f"{name:24} {path}\n")
    return 0


def _key(arguments: argparse.Namespace) -> int:
    if _unknown(arguments):
        return 2
    sys.stdout.write(f"{cache_key(*_wanted(arguments))}\n")
    return 0


def _folder(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    sys.stdout.write(f"{programs_folder(os.environ)}\n")
    return 0


def _wanted(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the programs and the versions that the arguments ask for."""
    asked = arguments.kube_version
    names = [n for n in PROGRAMS if n != "kind"]
    if arguments.kube:
        profile = profiles.find(arguments.kube, Path("clusters"))
        asked = asked or profile.version
        names = list(PROGRAMS_OF.get(profile.provider, names))
    parts = asked.split(",")
    if len(parts) > 1 and not all(map(str.strip, parts)):
        raise SettingsError(
            f"--kube-version={asked}: there is a version missing between commas"
        )
    versions = [resolve_version(part) for part in parts]
    return arguments.programs or names, list(dict.fromkeys(versions))


def _unknown(arguments: argparse.Namespace) -> bool:
    unknown = sorted(set(arguments.programs) - set(PROGRAMS))
    if unknown:
        sys.stderr.write(
            f"pytest-kube: no such program: {', '.join(unknown)}; "
            f"there are: {', '.join(PROGRAMS)}\n"
        )
    return bool(unknown)


def _path(arguments: argparse.Namespace) -> int:
    path = _store(arguments).require(arguments.program)[arguments.program]
    sys.stdout.write(f"{path}\n")
    return 0
