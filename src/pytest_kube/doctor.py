"""What each provider needs: whether it is there, and what to do where it is not.

It looks and asks, each time with a deadline; it starts nothing and changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_kube import contexts, kubebuilder, kubeconfig, login
from pytest_kube.binaries import releases
from pytest_kube.binaries.store import (
    CACHE_REMEDY,
    NO_GO,
    OFFLINE,
    REMEDIES,
    Store,
    cache_folder,
)
from pytest_kube.errors import APIError, KubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kube.contexts import Context
    from pytest_kube.settings import Settings

DEADLINE = 5.0
"""Seconds that a probe has; where all is well, all of them need one together."""

PLUGINS = ("pytest-xdist", "pytest-timeout", "pytest-asyncio", "pytest-randomly")
ORDER = ("kwok", "envtest", "kind", "existing")
MEMORY = {"kwok": 600, "envtest": 400, "kind": 2000}
"""MiB that a cluster takes, without what tests put into it."""

ROOM = 1000
"""MiB on disk with which nobody has to think about it."""

OPEN_FILES = 1024
INOTIFY = {"max_user_instances": 512, "max_user_watches": 65536}

_OTHERS = 0o022
_MIB = 1024 * 1024
_VARIABLES = re.compile(
    r"PYTEST_KUBE|KUBEBUILDER_|TEST_ASSET_|ENVTEST_|USE_EXISTING_CLUSTER$|"
    r"KUBECONFIG$|(DOCKER|CONTAINER)_HOST$|KIND_EXPERIMENTAL_PROVIDER$|"
    r"(HTTPS?|NO|ALL)_PROXY$",
    re.IGNORECASE,
)
_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_UNCHECKED = ("GONOSUMDB", "GOPRIVATE", "GOINSECURE")


@dataclass(frozen=True)
class Finding:
    """What was found where something was looked for.

    Attributes:
        state: Whether it is as it should be, worth knowing, or in the way.
        text: What was seen.
        remedy: What can be done.
    """

    state: Literal["ok", "note", "missing"]
    text: str
    remedy: str = ""

    def lines(self) -> Iterator[str]:
        """Yield it as people read it."""
        first, *rest = [*self.text.splitlines(), *self.remedy.splitlines()]
        yield f"  {self.state:<8} {first}"
        yield from (f"           {line}" for line in rest)


def examine(
    settings: Settings, environ: Mapping[str, str], tell: Callable[[str], object]
) -> bool:
    """Tell what there is for a provider or profile; return whether it can be used.

    Args:
        settings: Of the profile; where that has no name, all providers are looked at,
            and the answer is whether there can be a cluster without docker.
        environ: The environment variables.
        tell: Gets one line at a time.
    """
    tell(f"pytest-kube {package_version('pytest-kube')}, {_versions()}")
    _show("environment", list(_variables(environ)), tell)
    _show("machine", list(_machine(environ)), tell)
    one = settings.profile
    profiles = [one]
    if not one.name:
        profiles = [replace(one, name=n, provider=n) for n in ORDER]
    usable = {}
    for profile in profiles:
        findings = list(_provider(replace(settings, profile=profile), environ))
        usable[profile.name] = all(f.state != "missing" for f in findings)
        kind = "" if profile.name == profile.provider else f" ({profile.provider})"
        verdict = "usable" if usable[profile.name] else "not usable"
        _show(f"{profile.name}{kind}: {verdict}", findings, tell)
    return usable[one.name] if one.name else usable["kwok"] or usable["envtest"]


def _show(
    title: str, findings: Sequence[Finding], tell: Callable[[str], object]
) -> None:
    if findings:
        tell(f"\n{title}")
    for finding in findings:
        for line in finding.lines():
            tell(line)


def _within(seconds: float, *probes: Callable[[], Any]) -> list[Any]:
    """Return what probes return or raise, all at the same time; at last TimeoutError.

    Their threads are left behind: nothing ends a look-up of a name.
    """
    answers: list[Any] = [TimeoutError(f"no answer in {seconds:g} s") for _ in probes]

    def ask(number: int) -> None:
        try:
            answers[number] = probes[number]()
        except Exception as e:  # noqa: BLE001  # who asked looks at it
            answers[number] = e

    threads = [
        threading.Thread(target=ask, args=(number,), daemon=True)
        for number in range(len(probes))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return answers


# --- what is the same for every provider --------------------------------------


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("pytest", *PLUGINS):
        try:
            found.append(f"{name} {package_version(name)}")
        except PackageNotFoundError:
            continue
    return f"{', '.join(found)}; {releases.this_platform()}"


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Show what decides without standing in a command or a file."""
    for name, value in sorted(environ.items()):
        if _VARIABLES.match(name):
            yield Finding("ok", f"{name}={_without_password(value)}")
    assets = environ.get(kubebuilder.ASSETS, "")
    if assets and not Path(assets).is_dir():
        yield Finding(
            "note",
            f"{kubebuilder.ASSETS}: there is no such folder, programs are looked for "
            "elsewhere",
        )
    if login.proxy_for("https://dl.k8s.io"):
        yield Finding(
            "note",
            "the proxy is for downloads and existing clusters; clusters on this "
            "machine are reached without it, whatever NO_PROXY says",
        )


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def _machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    for what, folder in (
        ("cache", cache_folder(environ)),
        ("temporary files", Path(tempfile.gettempdir())),
    ):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if trouble := _not_writable(there):
            remedy = CACHE_REMEDY if what == "cache" else "TMPDIR names another folder"
            yield Finding("note", f"{what}: {folder}: {trouble}", remedy)
            continue
        free = shutil.disk_usage(there).free // _MIB
        text = f"{what}: {folder}, {free} MiB free"
        yield Finding("ok" if free >= ROOM else "note", text)
        if what == "cache" and there == folder and folder.stat().st_mode & _OTHERS:
            yield Finding(
                "note",
                f"cache: others may write to {folder}, and so replace programs",
                f"chmod go-w {folder}",
            )
    yield from _limits()


def _not_writable(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"


def _limits() -> Iterator[Finding]:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Programs in Go raise it up to there by themselves.
    if most != resource.RLIM_INFINITY and most < OPEN_FILES:
        yield Finding(
            "note",
            f"open files: {most} at most for a process, which an API server may exceed",
            f"ulimit -H -n {OPEN_FILES}",
        )


def _available() -> int | None:
    """Return the MiB of memory that are free; nothing where only Linux could tell."""
    try:
        text = Path("/proc/meminfo").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else None


# --- providers ----------------------------------------------------------------


def _provider(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    provider = settings.profile.provider
    if provider not in ORDER:
        yield Finding("note", "a provider of another package, which has to tell itself")
        return
    try:
        if provider == "existing":
            yield from _existing(settings)
            return
        if provider == "envtest":
            settings = _as_envtest(settings, environ)
        version = releases.resolve_version(settings.version)
    except KubeError as e:
        yield Finding("missing", str(e))
        return
    yield from _programs(settings, version, environ)
    if provider == "kind":
        yield from _docker(settings)
    left, needed = _available(), MEMORY[provider]
    if left is not None and left < needed:
        text = f"memory: {left} MiB available, and a cluster takes about {needed}"
        yield Finding("note", text)


def _as_envtest(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return what the variables make of the settings.

    Raises:
        SettingsError: One of them is wrong.
    """
    kubebuilder.start_timeout(environ)
    return replace(
        settings,
        version=settings.version or kubebuilder.kubernetes_version(environ)[0],
        offline=settings.offline or kubebuilder.is_installed_only(environ),
    )


def _programs(
    settings: Settings, version: str, environ: Mapping[str, str]
) -> Iterator[Finding]:
    names = releases.PROGRAMS_OF[settings.profile.provider]
    store = Store(version, explicit=settings.binaries, environ=environ)
    missing = []
    for name in names:
        if found := store.find(name):
            text = f"{store.label(name)}: {found.path} ({found.origin})"
            yield Finding("ok", text)
        else:
            missing.append(name)
    if missing:
        yield from _obtainable(missing, store, version, offline=settings.offline)


def _obtainable(
    names: Sequence[str], store: Store, version: str, *, offline: bool
) -> Iterator[Finding]:
    """Tell of programs that are not here whether they can be fetched."""
    remedy = "\n".join(line.strip().removeprefix("- ") for line in REMEDIES)
    here = f"{store.label(*names)}: not here"
    if offline:
        yield Finding("missing", f"{here}, and {OFFLINE}", remedy)
        return
    cache = cache_folder(store.environ)
    there = next(p for p in (cache, *cache.parents) if p.exists())
    if trouble := _not_writable(there):
        text = f"{here}, and cannot be stored: {trouble}"
        yield Finding("missing", text, CACHE_REMEDY)
        return
    from pytest_kube.binaries.download import Downloader

    downloader = Downloader(store.environ, lambda _: None)
    probes = [
        partial(downloader.probe, n, releases.program_version(n, version), DEADLINE)
        for n in names
    ]
    answers = _within(DEADLINE, *probes)
    failed = {n: a for n, a in zip(names, answers, strict=True) if a is not None}
    if loaded := [name for name in names if name not in failed]:
        text = f"{store.label(*loaded)}: not here, downloaded at first use"
        yield Finding("note", text, f"pytest-kube binaries install {' '.join(loaded)}")
    if not failed:
        return
    here = f"{store.label(*failed)}: not here"
    reasons = "\n".join(dict.fromkeys(map(str, failed.values())))
    go = shutil.which("go", path=store.environ.get("PATH", ""))
    if go is None:
        yield Finding("missing", f"{here}; {NO_GO}, and\n{reasons}", remedy)
        return
    minutes = sum(releases.RECIPES[name].minutes for name in failed)
    yield Finding(
        "note",
        f"{here}, built at first use with {go} in about {minutes} min, for\n{reasons}",
        f"pytest-kube binaries install {' '.join(failed)}",
    )
    yield from _go(go, store.environ)


def _go(go: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell what Go would not check of what it downloads."""
    try:
        answer = subprocess.run(
            [go, "env", "-json", "GOSUMDB", *_UNCHECKED],
            env=environ,
            capture_output=True,
            timeout=DEADLINE,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as e:
        yield Finding("note", f"{go} env: {e}")
        return
    said = json.loads(answer)
    loose = [f"{name}={said[name]}" for name in _UNCHECKED if said[name]]
    loose += ["GOSUMDB=off"] if said["GOSUMDB"] == "off" else []
    if loose:
        text = f"Go modules are not all checked by their checksums: {', '.join(loose)}"
        yield Finding("note", text, "go env -u NAME, or unset the variable")


def _docker(settings: Settings) -> Iterator[Finding]:
    from pytest_kube.providers import kind_nodes

    engine = kind_nodes.engine()
    if shutil.which(engine) is None:
        yield Finding(
            "missing",
            f"{engine}: the program is not on PATH, and kind needs it",
            "install it: docker-ce-cli, docker.io or docker; for podman, podman",
        )
    (answer,) = _within(DEADLINE, partial(_ask_docker, settings))
    if isinstance(answer, Exception):
        yield Finding("missing", f"{engine}: {answer}")
    else:
        info, image, is_here = answer
        yield Finding(
            "ok",
            f"{engine} {info.get('ServerVersion')} on {info.get('OperatingSystem')}, "
            f"cgroup v{info.get('CgroupVersion', '1')}",
        )
        if is_here:
            yield Finding("ok", f"node image {image}")
        else:
            text = f"node image {image}: not here, pulled at first use"
            yield Finding("note", text, f"{engine} pull {image}")
    yield from _inotify()


def _ask_docker(settings: Settings) -> tuple[dict[str, Any], str, bool]:
    """Return what the daemon says of itself, the node image, and whether it is here."""
    from pytest_kube.providers import kind

    with contextlib.closing(kind.daemon()) as client:
        from docker.errors import ImageNotFound

        image = settings.profile.image or kind.node_image(client, settings.version)
        try:
            client.images.get(image)
        except ImageNotFound:
            return client.info(), image, False
        return client.info(), image, True


def _inotify() -> Iterator[Finding]:
    for name, wanted in INOTIFY.items():
        try:
            limit = int(Path(f"/proc/sys/fs/inotify/{name}").read_text("utf-8"))
        except OSError:
            continue  # no Linux; docker has a machine of its own there
        if limit < wanted:
            yield Finding(
                "note",
                f"fs.inotify.{name} is {limit}: with several nodes, some may not start",
                f"sudo sysctl fs.inotify.{name}={wanted}",
            )


# --- existing clusters --------------------------------------------------------


def _existing(settings: Settings) -> Iterator[Finding]:
    """Tell which contexts there are; ask the server only of one that is named."""
    profile = settings.profile
    if profile.context:
        yield from _contacted(contexts.chosen(settings))
        return
    sources, names = contexts.names(profile.kubeconfig)
    where = ", ".join(map(str, sources))
    if not names:
        yield Finding("missing", f"kubeconfig {where}: there is no context in it")
        return
    yield Finding("ok", f"kubeconfig {where}; which of its contexts, tests have to say")
    for name in names:
        named = replace(settings, profile=replace(profile, context=name))
        try:
            yield Finding("ok", _described(contexts.chosen(named)))
        except KubeError as e:
            yield Finding("note", str(e))


def _described(context: Context) -> str:
    proxy = login.proxy_for(context.server)
    return f"{context}{f', by {_without_password(proxy)}' if proxy else ''}"


def _contacted(context: Context) -> Iterator[Finding]:
    from pytest_kube.client import Client
    from pytest_kube.providers.existing import first_answers

    def ask() -> tuple[str, str, bool]:
        with tempfile.TemporaryDirectory(prefix="kube-doctor-") as folder:
            path = Path(folder, "kubeconfig")
            kubeconfig.save(path, context.config)
            client = Client.from_kubeconfig(path)
            user, version = first_answers(client, context)
            return user, version, _may_make_namespaces(client)

    (answer,) = _within(DEADLINE, ask)
    if isinstance(answer, Exception):
        text = f"{context}: {answer}" if isinstance(answer, TimeoutError) else answer
        yield Finding("missing", str(text))
        return
    user, version, may = answer
    yield Finding("ok", f"{_described(context)}: Kubernetes {version}, known as {user}")
    if may:
        yield Finding("ok", "may create namespaces; --kube-allow-writes lets tests")
    else:
        yield Finding(
            "note",
            "may not create namespaces: with --kube-allow-writes, tests share that of "
            "the context",
            f"--kube-isolation=none; {context.kubectl} auth can-i create namespaces "
            "tells the same",
        )


def _may_make_namespaces(client: Any) -> bool:
    attributes = {"verb": "create", "resource": "namespaces"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        review = client.request("POST", _ACCESS, body=body, timeout=DEADLINE)
    except APIError:
        return False  # nor may it ask
    return bool(review["status"].get("allowed"))
