"""Write what happened in a test as an archive of crust-gather.

``crust-gather serve`` plays it back at the pace of the test, then shows its end, to
kubectl, k9s, Headlamp. The format is that of ``crust-gather record``: a file with the
first state of each object, beside it a line of JSON patch for each change, with its
time in an annotation.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_kube import discovery
from pytest_kube.errors import ArchiveError
from pytest_kube.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_kube.client import Client
    from pytest_kube.diagnostics.pod_logs import ContainerLog
    from pytest_kube.diagnostics.timeline import Line
    from pytest_kube.history import Version
    from pytest_kube.state.archive import Stored

NAME = "crust-gather"
LARGEST = 50 * 1024**2
"""Bytes of all files together, at most: people upload them."""

_STAMP = "crust-gather.io/"
_ILLEGAL = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?|"<>]')
_LONGEST = 240
# YAML's readers take them for line breaks, or refuse them.
_BREAKING = re.compile("[\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]")
_TICK = timedelta(microseconds=1)

_Key = tuple[str, str, str, str]
_VersionsServed = dict[tuple[str, str], list[str]]


def first(stored: Iterable[Stored], namespace: str) -> Iterator[dict[str, Any]]:
    """Choose what there was before the test that belongs into its archive.

    That is its namespace, and every CRD, for printer columns. Of the some 200 objects
    that every cluster begins with, those that the test touched come with its history;
    the others would only hide them.
    """
    for each in stored:
        value = each.value
        if value is None or not isinstance(value.get("apiVersion"), str):
            continue
        metadata = value.get("metadata") or {}
        kind, where = value.get("kind"), metadata.get("namespace")
        if (
            where == namespace
            or kind == "CustomResourceDefinition"
            or (kind == "Namespace" and metadata.get("name") == namespace)
        ):
            known = {**metadata, "resourceVersion": str(each.revision)}
            yield {**value, "metadata": known}


def write(
    folder: Path,
    client: Client,
    baseline: Iterable[Mapping[str, Any]],
    versions: Iterable[Version],
    lines: Iterable[Line] = (),
    *,
    pod_logs: Iterable[ContainerLog] = (),
    namespace: str = "default",
    redactor: Redactor | None = None,
    deadline: float = math.inf,
) -> None:
    """Write an archive. There is a whole one in the end, or none.

    Args:
        folder: Its folder, replaced if it exists. It names the context of kubectl.
        client: Of the cluster; asked for its version and what it serves.
        baseline: What there was when the test began, where it matters.
        versions: Every change since, in order.
        lines: What controllers wrote: their logs. Each is dressed as a pod, as
            crust-gather dresses the logs of hosts.
        pod_logs: What the containers of pods wrote.
        namespace: Where these pods are.
        redactor: What must not be in it; by default the values of Secrets in them.
        deadline: When to give up, on the clock of ``time.monotonic``.

    Raises:
        ArchiveError: It would be too large, or it took too long.
        ClusterError: The API server does not answer.
        OSError: It cannot be written.
    """
    files = _Files(folder.with_name(f".{folder.name}.{os.getpid()}"), deadline)
    changes = list(versions)
    if changes:
        began = min(version.time for version in changes) - _TICK
    else:
        began = datetime.now(UTC)
    shutil.rmtree(files.root, ignore_errors=True)
    try:
        answers = {
            root: client.request("GET", f"/{root}", accept=discovery.ACCEPT)
            for root in ("api", "apis")
        }
        served = _versions_served(answers.values())
        objects = _Objects(files, began, served, redactor or Redactor())
        for obj in baseline:
            objects.begin(obj)
        for version in changes:
            objects.change(version)
        _write_logs(objects, lines, namespace)
        for log in pod_logs:
            objects.write_container_log(log)
        objects.finish()
        files.write("version.yaml", _document(client.request("GET", "/version")))
        for root, answer in answers.items():
            files.write(f"{root}.json", json.dumps(_served(answer, objects.kinds)))
        # Written as JSON; serve counts the time of the archive from there.
        files.write("collected.timestamp", json.dumps(_told(began)))
        if folder.exists():
            shutil.rmtree(folder)
        files.root.rename(folder)
    finally:
        shutil.rmtree(files.root, ignore_errors=True)


@dataclass
class _Files:
    """The files of an archive, and how much they may be."""

    root: Path
    deadline: float
    size: int = 0

    def write(self, path: str, text: str) -> None:
        data = text.encode()
        self.size += len(data)
        if self.size > LARGEST:
            raise ArchiveError(f"it would be larger than {LARGEST / 1024**2:.0f} MB")
        if time.monotonic() > self.deadline:
            raise ArchiveError("it took too long")
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@dataclass
class _Recorded:
    """An object: its first state, the newest one, and the patches between them."""

    first: dict[str, Any]
    newest: dict[str, Any]
    patches: list[str] = field(default_factory=list)


class _Objects:
    """All objects of an archive, by what they are."""

    def __init__(
        self,
        files: _Files,
        began: datetime,
        served: _VersionsServed,
        redactor: Redactor,
    ) -> None:
        self._files = files
        self._served = served
        self._redactor = redactor
        self.began = began
        self._last = began
        self._found: dict[_Key, _Recorded] = {}

    @property
    def kinds(self) -> set[tuple[str, str, str]]:
        """Group, version and kind of every object."""
        found = set()
        for api_version, kind, _, _ in self._found:
            group, _, version = api_version.rpartition("/")
            found.add((group, version, kind))
        return found

    def begin(self, obj: Mapping[str, Any]) -> None:
        """Add an object that was there before."""
        key = _key(_as_served(obj, self._served))
        if key not in self._found:
            stamped = self._stamped(obj, "added", self.began)
            self._found[key] = _Recorded(stamped, stamped)

    def change(self, version: Version) -> None:
        """Add a change: what it was before, if it is new to us, and what it became."""
        # Two changes at one time are one to serve, which would lose the second.
        self._last = max(version.time, self._last + _TICK)
        if version.object is not None and version.previous is None:
            self._add(version.object, "added")
        elif version.object is not None and version.previous is not None:
            self.begin(version.previous)
            same = version.object["apiVersion"] == version.previous["apiVersion"]
            if not same:  # the CRD says since then that it is stored in that one
                self._add(version.previous, "deleted")
            self._add(version.object, "updated" if same else "added")
        elif version.previous is not None:
            self.begin(version.previous)
            self._add(version.previous, "deleted")

    def _add(self, obj: Mapping[str, Any], what: str) -> None:
        stamped = self._stamped(obj, what, self._last)
        key = _key(_as_served(obj, self._served))
        recorded = self._found.setdefault(key, _Recorded(stamped, stamped))
        if recorded.newest is not stamped:
            patch = list(_patch("", recorded.newest, stamped))
            recorded.patches.append(json.dumps(patch))
            recorded.newest = stamped

    def _stamped(
        self, obj: Mapping[str, Any], what: str, when: datetime
    ) -> dict[str, Any]:
        """Return a copy that may be shown to others, with the time for serve."""
        shown = self._redactor.object(_as_served(obj, self._served))
        metadata = shown["metadata"]
        stamps = {**(metadata.get("annotations") or {}), _STAMP + what: _told(when)}
        first = {"apiVersion": shown["apiVersion"], "kind": shown["kind"]}
        return {**first, **shown, "metadata": {**metadata, "annotations": stamps}}

    def finish(self) -> None:
        """Write them all."""
        used: set[str] = set()
        for key, recorded in self._found.items():
            path = _path(*_key(recorded.first))
            if path.lower() in used:  # names that differ only in what is not there
                path = f"{path}-{_digest(key[-1])}"
            used.add(path.lower())
            self._files.write(f"{path}.yaml", _document(recorded.first))
            if recorded.patches:
                text = "\n".join([*recorded.patches, ""])
                self._files.write(f"{path}.patch", text)

    def write_log(self, pod: Mapping[str, Any], text: str) -> None:
        """Write the log of a pod's only container."""
        shown = self._redactor.object({**pod})
        name = pod["spec"]["containers"][0]["name"]
        log = f"{_path(*_key(shown))}/{name}/current.log"
        self._files.write(log, self._redactor.text(text))

    def write_container_log(self, log: ContainerLog) -> None:
        """Write what a container has said, each line with its time."""
        namespace, _, name = log.pod.partition("/")
        life = "previous" if log.previous else "current"
        path = f"{_path('v1', 'Pod', namespace, name)}/{_legal(log.container)}"
        self._files.write(f"{path}/{life}.log", self._redactor.text(log.text))


def _write_logs(objects: _Objects, lines: Iterable[Line], namespace: str) -> None:
    logs: dict[str, list[str]] = {}
    for line in lines:
        text = line.text.replace("\r", "").replace("\n", " ")
        # serve takes the first word of each line away: it is the time.
        logs.setdefault(line.controller, []).append(f"{_told(line.time)} {text}\n")
    for number, (controller, log) in enumerate(logs.items(), 1):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pytest-kube-controller-{number}",
                "namespace": namespace,
                "creationTimestamp": _told(objects.began),
                "annotations": {
                    "pytest-kube/controller": controller,
                    "pytest-kube/note": "not a pod: the output of the controller",
                },
            },
            "spec": {"containers": [{"name": "controller", "image": "none"}]},
            "status": {"phase": "Unknown"},
        }
        objects.begin(pod)
        objects.write_log(pod, "".join(log))


# --- how things are written -----------------------------------------------------


def _key(obj: Mapping[str, Any]) -> _Key:
    metadata = obj["metadata"]
    where = metadata.get("namespace") or ""
    return obj["apiVersion"], obj["kind"], where, metadata["name"]


def _path(api_version: str, kind: str, namespace: str, name: str) -> str:
    """Return where serve looks for an object, without the suffix."""
    where = ["namespaces", _legal(namespace)] if namespace else ["cluster"]
    parts = (api_version.lower().replace("/", "-"), kind.lower(), name)
    return "/".join([*where, *map(_legal, parts)])


def _legal(part: str) -> str:
    """Return a name that every file system takes, and uploads to GitHub, too."""
    legal = _ILLEGAL.sub("-", part)
    if set(legal) <= {"."}:  # the folder itself, or the one above
        legal = "-" * max(1, len(legal))
    if len(legal.encode()) > _LONGEST:
        return f"{legal.encode()[:_LONGEST].decode('utf-8', 'ignore')}-{_digest(part)}"
    return legal


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _told(when: datetime) -> str:
    moment = when.astimezone(UTC).isoformat(timespec="microseconds")
    return moment.replace("+00:00", "Z")


def _document(obj: Any) -> str:
    """Return JSON, which is YAML that no dialect reads differently, and fast."""
    text = json.dumps(obj, indent=1, ensure_ascii=False)
    return _BREAKING.sub(lambda m: f"\\u{ord(m[0]):04x}", text) + "\n"


def _patch(path: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    """Yield the operations of RFC 6902 that make one value the other."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            step = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": step}
            elif key not in before:
                yield {"op": "add", "path": step, "value": after[key]}
            else:
                yield from _patch(step, before[key], after[key])
    elif (
        isinstance(before, list)
        and isinstance(after, list)
        and len(before) == len(after)
    ):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _patch(f"{path}/{i}", one, other)
    elif before != after or type(before) is not type(after):
        yield {"op": "replace", "path": path, "value": after}


def _versions_served(answers: Iterable[Mapping[str, Any]]) -> _VersionsServed:
    found: _VersionsServed = {}
    for answer in answers:
        for resource in discovery.parse(answer):
            versions = found.setdefault((resource.group, resource.kind), [])
            versions.append(resource.version)
    return found


def _as_served(obj: Mapping[str, Any], served: _VersionsServed) -> dict[str, Any]:
    """Return an object in a version that is served, where it is stored in another.

    An API server stores what it serves since recently in an older version, which
    looks the same; CRDs, which do not, it stores so for ever.
    """
    group, _, version = obj["apiVersion"].rpartition("/")
    versions = served.get((group, obj["kind"]))
    if not versions or version in versions:
        return dict(obj)
    api_version = f"{group}/{versions[0]}" if group else versions[0]
    found = {**obj, "apiVersion": api_version}
    if (group, obj["kind"]) == ("apiextensions.k8s.io", "CustomResourceDefinition"):
        found["spec"] = _crd_spec(found["spec"])
    return found


def _crd_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a CRD's spec as v1 has it: what versions had in common is in each."""
    old = ("additionalPrinterColumns", "preserveUnknownFields", "subresources")
    new = {k: v for k, v in spec.items() if k not in {*old, "validation", "version"}}
    versions: list[dict[str, Any]] = []
    for version in spec.get("versions") or ():
        each = {
            "schema": spec.get("validation"),
            "subresources": spec.get("subresources"),
            "additionalPrinterColumns": spec.get("additionalPrinterColumns"),
            **version,
        }
        each["additionalPrinterColumns"] = [
            {"jsonPath" if k == "JSONPath" else k: v for k, v in column.items()}
            for column in each["additionalPrinterColumns"] or ()
        ]
        versions.append({k: v for k, v in each.items() if v not in (None, [])})
    new["versions"] = versions
    conversion = dict(spec.get("conversion") or {})
    if "webhookClientConfig" in conversion:
        conversion["webhook"] = {
            "clientConfig": conversion.pop("webhookClientConfig"),
            "conversionReviewVersions": conversion.pop("conversionReviewVersions", []),
        }
        new["conversion"] = conversion
    return new


def _served(answer: dict[str, Any], kinds: set[tuple[str, str, str]]) -> dict[str, Any]:
    """Return discovery such that serve finds the objects that are there.

    It looks for files by the singular name, which a CRD chooses freely, where files
    are named by the kind. And kubectl asks for the version that a group prefers: what
    is stored in another one is said to be served in that one only.
    """
    for group in answer.get("items", ()):
        name = (group.get("metadata") or {}).get("name") or ""
        stored: dict[str, set[str]] = {}
        for in_group, version, kind in kinds:
            if in_group == name:
                stored.setdefault(kind, set()).add(version)
        for part in group.get("versions", ()):
            part["resources"] = [
                {**resource, "singularResource": served.lower()}
                for resource in part.get("resources", ())
                if (served := (resource.get("responseKind") or {}).get("kind"))
                and part["version"] in stored.get(served, {part["version"]})
            ]
    return answer
