"""Manifests: YAML and JSON as kubectl reads them, and the order of installation.

Knows nothing of clusters. Where the objects stand in files, what each of them needs to
have, which ones come first; the dialect of YAML is that of `kubectl_yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any, Protocol

from pytest_kube import kubectl_yaml
from pytest_kube.errors import ManifestError, hide_frames
from pytest_kube.kubectl_yaml import Document

__tracebackhide__ = hide_frames

# Kinds in the order in which they can be installed; every other kind comes between
# the workloads and what acts on each later request.
_EARLY, _LATE = (
    kinds.split()
    for kinds in (
        """Namespace CustomResourceDefinition PriorityClass RuntimeClass
        ResourceQuota LimitRange ServiceAccount ClusterRole ClusterRoleBinding Role
        RoleBinding ConfigMap Secret StorageClass PersistentVolume
        PersistentVolumeClaim Service DaemonSet Deployment ReplicaSet
        ReplicationController StatefulSet Job CronJob Pod""",
        """APIService MutatingAdmissionPolicy MutatingAdmissionPolicyBinding
        ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
        MutatingWebhookConfiguration ValidatingWebhookConfiguration""",
    )
)


class ToDict(Protocol):
    """A model of an object, as the official client and kr8s have them."""

    def to_dict(self) -> Any:
        """Return the object as a dictionary."""


class ModelDump(Protocol):
    """A model of an object, made with Pydantic."""

    def model_dump(self, *, by_alias: bool, exclude_none: bool) -> Any:
        """Return the object as a dictionary."""


Model = ToDict | ModelDump
Source = Path | str | Mapping[str, Any] | Sequence[Any] | Model
"""A file, a folder, YAML text, an object, or a sequence of these."""


def load(source: Source, *, base: Path | None = None) -> list[dict[str, Any]]:
    """Return every object of *source*, in the order in which they are written.

    Args:
        source: A file; a folder, of which every ``*.yaml``, ``*.yml`` and ``*.json``
            is read, but no subfolder; YAML text; an object, also one that has
            ``to_dict()`` or ``model_dump()``; or a sequence of these.
        base: The folder that relative paths start from; else the current one.

    Raises:
        ManifestError: Something is missing, or is not what kubectl would accept.
    """
    return [document.object for document in read(source, base=base)]


def read(source: Source, *, base: Path | None = None) -> list[Document]:
    """Return what `load` returns, each object with its file and line."""
    if isinstance(source, Path | str):
        path = (base or Path()) / source
        if str(source).strip() and _exists(path):
            return _read_path(path)
        # A path has neither line breaks nor a key with its colon.
        if isinstance(source, str) and re.search(r"\n|^\s*\{|^[^\s:]+:(\s|$)", source):
            if found := list(_parse(source, None)):
                return found
            raise ManifestError(f"no object in the text {brief(source)}; write one")
        raise ManifestError(
            f"no such file or folder, looked for {path.absolute()}; correct the path,"
            " or pass a mapping as YAML text",
            source=Path(source),
        )
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return [document for item in source for document in read(item, base=base)]
    return list(_check(Document(_to_json(source))))


def dump(objects: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> str:
    """Return the objects as YAML for people, from which kubectl reads the same."""
    listed = [objects] if isinstance(objects, Mapping) else objects
    return kubectl_yaml.dump(_to_json(obj) for obj in listed)


def install_order(objects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects such that each comes after those that it needs.

    Objects of equal rank keep their order. Webhook configurations and admission
    policies come last, for they would judge the creation of the others.
    """

    def rank(obj: Mapping[str, Any]) -> int:
        group, kind = _group(obj), obj.get("kind")
        # Other groups have a Service or a Job of their own.
        if "." in group and not group.endswith(".k8s.io"):
            return len(_EARLY)
        if kind in _EARLY:
            return _EARLY.index(kind)
        return len(_EARLY) + (1 + _LATE.index(kind) if kind in _LATE else 0)

    return [dict(obj) for obj in sorted(objects, key=rank)]


def is_crd(obj: Mapping[str, Any]) -> bool:
    """Tell whether the object is a CustomResourceDefinition."""
    is_kind = obj.get("kind") == "CustomResourceDefinition"
    return is_kind and _group(obj) == "apiextensions.k8s.io"


def check_crd(obj: Mapping[str, Any], source: Path | None = None) -> None:
    """Raise `ManifestError` for an object that is no CRD; say where it belongs."""
    if not is_crd(obj):
        raise Document(dict(obj), source).error(
            f"not a CRD but a {obj.get('kind')} of {obj.get('apiVersion')};"
            " kube_crds installs CRDs only, list this one under kube_manifests"
        )


def _group(obj: Mapping[str, Any]) -> str:
    return str(obj.get("apiVersion")).rpartition("/")[0]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with characters that no path has
        return False


def files(path: Path) -> list[Path]:
    """Return the file, or the files of a folder that are read, in their order."""
    if not path.is_dir():
        return [path]
    return [
        file
        for file in sorted(path.iterdir())
        if file.suffix in {".json", ".yaml", ".yml"}
        and file.stem != "kustomization"
        and not file.is_dir()
    ]


def _read_path(path: Path) -> list[Document]:
    try:
        found = [document for file in files(path) for document in _read_file(file)]
    except OSError as error:
        text = f"cannot be read: {error.strerror}; make it readable"
        raise ManifestError(text, source=Path(error.filename)) from error
    if not found:
        where = "this file"
        if path.is_dir():
            where = "*.yaml, *.yml and *.json of this folder; subfolders are not read"
        raise ManifestError(f"no object in {where}; name another one", source=path)
    return found


def _read_file(path: Path) -> list[Document]:
    try:
        return list(_parse(path.read_bytes().decode("utf-8-sig"), path))
    except UnicodeDecodeError as error:
        text = f"not text: byte {error.start} is not UTF-8; save the file as UTF-8"
        raise ManifestError(text, source=path) from error


def _parse(text: str, source: Path | None) -> Iterator[Document]:
    for document in kubectl_yaml.parse(text, source):
        yield from _check(document)


def _check(document: Document) -> Iterator[Document]:
    """Yield the object of a document, or the items of a list, as kubectl does."""
    obj = document.object
    if not isinstance(obj, dict):
        raise document.error(
            f"a mapping was expected, this is {brief(obj)}; start an object with"
            " apiVersion and kind"
        )
    if "api_version" in obj:
        raise document.error(
            "api_version is Python's name for apiVersion; of a model of kubernetes"
            " before 37 pass ApiClient().sanitize_for_serialization(model)"
        )
    for key, example in (("apiVersion", "apps/v1"), ("kind", "Deployment")):
        if not obj.get(key):
            raise document.error(f"no {key}; add one, for example {key}: {example}")
        if not isinstance(obj[key], str):
            raise document.error(f"{key} is {obj[key]!r}, which is no text; quote it")
    kind = obj["kind"].removesuffix("List")
    if kind != obj["kind"] and isinstance(obj.get("items"), list):
        # The items of a PodList need not repeat that they are Pods.
        given = {"apiVersion": obj["apiVersion"], "kind": kind} if kind else {}
        for item in obj["items"]:
            whole = {**given, **item} if isinstance(item, dict) else item
            yield from _check(Document(whole, document.source, document.line))
        return
    metadata = obj.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    name = named.get("name") or named.get("generateName")
    if not name:
        text = f"{obj['kind']} without metadata.name; add one, or a generateName"
        raise document.error(text)
    if not isinstance(name, str):
        raise document.error(f"metadata.name is {name!r}, which is no text; quote it")
    yield document


def _to_json(value: Any, path: str = "object") -> Any:
    """Return a copy of Python data that holds JSON's types only."""
    if callable(model_dump := getattr(value, "model_dump", None)):
        value = model_dump(by_alias=True, exclude_none=True)
    elif callable(to_dict := getattr(value, "to_dict", None)):
        value = to_dict()
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise ManifestError(f"{path} has the key {odd[0]!r}, no text; quote it")
        return {str(k): _to_json(item, f"{path}.{k}") for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    raise ManifestError(
        f"{path} is a {type(value).__name__}, which JSON has not: {brief(value)};"
        " use mappings, lists, text, numbers, True, False and None"
    )
