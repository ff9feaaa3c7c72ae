"""Manifests: YAML and JSON as kubectl reads them, and the order of installation.

Knows nothing of clusters. YAML here is the dialect of kubectl, not of PyYAML:
``10:30`` is text, ``1e3`` a number, ``y`` is true, and keys are always text.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from pytest_kube.errors import ManifestError

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

# The tag of unquoted text, whose meaning is open until `_scalar` has seen it.
_OPEN = "?"
_YAML = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | float | None] = {
    word: value
    for words, value in (
        ("y Y yes Yes YES true True TRUE on On ON", True),
        ("n N no No NO false False FALSE off Off OFF", False),
        (" ~ null Null NULL", None),
        (".inf .Inf .INF +.inf +.Inf +.INF -.inf -.Inf -.INF", math.inf),
        (".nan .NaN .NAN", math.nan),
    )
    for word in words.split(" ")
}
_INTEGER = re.compile(
    r"[-+]?(0[xX][\da-fA-F]+|0[oO][0-7]+|0[bB][01]+|0(?P<octal>[0-7]+)|0|[1-9]\d*)",
    re.ASCII,
)
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_TAGS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "float": (int, float),
    "int": (int,),
    "null": (type(None),),
}

Source = Path | str | Mapping[str, Any] | Sequence[Any]
"""A file, a folder, YAML text, an object, or a sequence of these."""


@dataclass(frozen=True)
class Document:
    """One object of a manifest, with its file and the line of its document."""

    object: dict[str, Any]
    source: Path | None = None
    line: int | None = None

    def error(self, text: str) -> ManifestError:
        """Return the error that says *text* about this object."""
        if self.source is None:
            line = self.line and f"line {self.line} of the text"
            text = f"{line or f'object {brief(self.object)}'}: {text}"
        return ManifestError(text, source=self.source, line=self.line)


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
    import yaml

    return "---\n".join(
        yaml.dump(
            _to_json(obj),
            Dumper=_dumper(),
            allow_unicode=True,
            default_flow_style=False,
            sort_keys=False,
            width=1_000_000,  # folded lines are hard to search
        )
        for obj in ([objects] if isinstance(objects, Mapping) else objects)
    )


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


def _read_path(path: Path) -> list[Document]:
    files, where = [path], "this file"
    try:
        if path.is_dir():
            where = "*.yaml, *.yml and *.json of this folder; subfolders are not read"
            files = [
                file
                for file in sorted(path.iterdir())
                if file.suffix in {".json", ".yaml", ".yml"}
                and file.stem != "kustomization"
                and not file.is_dir()
            ]
        found = [document for file in files for document in _read_file(file)]
    except OSError as error:
        text = f"cannot be read: {error.strerror}; make it readable"
        raise ManifestError(text, source=Path(error.filename)) from error
    if not found:
        raise ManifestError(f"no object in {where}; name another one", source=path)
    return found


def _read_file(path: Path) -> list[Document]:
    try:
        return list(_parse(path.read_bytes().decode("utf-8-sig"), path))
    except UnicodeDecodeError as error:
        text = f"not text: byte {error.start} is not UTF-8; save the file as UTF-8"
        raise ManifestError(text, source=path) from error


def _parse(text: str, source: Path | None) -> Iterator[Document]:
    import yaml

    try:
        documents = _parse_json(text, source) or [
            Document(_plain(node, source), source, node.start_mark.line + 1)
            for node in yaml.compose_all(text, _loader())
            if node is not None
        ]
    except (yaml.YAMLError, UnicodeError) as error:
        problem, line = _problem(error, text)
        raise Document({}, source, line).error(f"not YAML: {problem}") from error
    except RecursionError:
        problem = "nested too deeply, or by an anchor in itself; flatten it"
        raise Document({}, source, 1).error(problem) from None
    for document in documents:
        if document.object is not None:  # only comments between two separators
            yield from _check(document)


def _parse_json(text: str, source: Path | None) -> list[Document]:
    """Return the object of JSON text, whose escapes YAML parsers do not all know."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(pairs)) < len(pairs):
            raise ValueError
        return result

    try:
        value = text.lstrip().startswith("{") and json.loads(
            text, object_pairs_hook=unique, parse_float=_scalar, parse_int=_scalar
        )
    except ValueError:  # YAML's own braces, or a mistake, which YAML can locate
        return []
    return [Document(value, source, 1)] if value else []


def _problem(error: Any, text: str) -> tuple[str, int]:
    """Return what a parser met, with what to do about it, and the line."""
    if isinstance(character := getattr(error, "character", None), int):
        line = text.partition(chr(character))[0].count("\n") + 1
        return f"{error.reason}; remove the character {character:#04x}", line
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    if re.match(r"\s*\t", [*text.splitlines(), "", ""][line - 1]):
        advice = "indent with spaces, YAML allows no tabs there"
    elif "{{" in text:
        advice = "if this is a template, render it first"
    else:
        advice = "look at quotes and indentation, also in the line above"
    return f"{getattr(error, 'problem', error)}; {advice}", line


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


def _scalar(text: str) -> Any:
    """Return what unquoted text means to kubectl."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    plain = text.replace("_", "")
    if match := _INTEGER.fullmatch(plain):
        number = int(plain, 8 if match["octal"] else 0)
        if -(2**63) <= number < 2**64:
            return number if number < 2**63 else float(number)
    if _FLOAT.fullmatch(plain) and math.isfinite(real := float(plain)):
        # Go writes a float with the fewest digits, and reads an integer from them.
        number = int(Decimal(repr(real))) if real.is_integer() else 2**63
        return number if -(2**63) <= number < 2**63 else real
    return text


def _plain(node: Any, source: Path | None) -> Any:
    """Return the data of a YAML node."""
    if node.id == "scalar":
        return _tagged(node, source)
    if node.id == "sequence":
        return [_plain(item, source) for item in node.value]
    result: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for key_node, value_node in node.value:
        value = _plain(value_node, source)
        if key_node.tag == _OPEN and key_node.value == "<<":
            for merged in reversed(value if isinstance(value, list) else [value]):
                if not isinstance(merged, dict):
                    text = f"<< merges mappings, not {brief(merged)}; correct it"
                    raise _at(key_node, source).error(text)
                # Over the keys above it, against YAML's own rule: so does kubectl.
                result.update(merged)
            continue
        key = _plain(key_node, source)
        if key is None or isinstance(key, dict | list):
            text = f"the key {brief(key)} is no text; quote it"
            raise _at(key_node, source).error(text)
        key = key if isinstance(key, str) else json.dumps(key)
        if key in keys:
            first, second = _at(keys[key], source), _at(key_node, source)
            raise second.error(
                f"the key {key!r} stands twice, in line {first.line} and in line"
                f" {second.line}; remove one"
            )
        keys[key], result[key] = key_node, value
    return result


def _tagged(node: Any, source: Path | None) -> Any:
    """Return what a scalar means, with regard to its tag."""
    text, tag = node.value, node.tag.removeprefix(_YAML)
    if tag == "binary":
        try:
            return base64.b64decode(text, validate=True).decode(errors="replace")
        except ValueError as error:
            problem = f"{brief(text)} is no base64 ({error}); encode it again"
            raise _at(node, source).error(problem) from error
    if tag != _OPEN and tag not in _TAGS:
        return text
    value = _scalar(text)
    if tag in _TAGS and type(value) not in _TAGS[tag]:
        problem = f"{text!r} is no !!{tag}; correct it, or remove the tag"
        raise _at(node, source).error(problem)
    if isinstance(value, float) and not math.isfinite(value):
        problem = f"JSON has no number {text}; quote it, or write another one"
        raise _at(node, source).error(problem)
    return value


def _at(node: Any, source: Path | None) -> Document:
    return Document({}, source, node.start_mark.line + 1)


@cache
def _loader() -> Any:
    """Return the parser class, which leaves the meaning of scalars open."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def resolve(self, kind: Any, _value: Any, implicit: Any) -> str:
            return _OPEN if kind is yaml.ScalarNode and implicit[0] else f"{_YAML}str"

    return Loader


@cache
def _dumper() -> Any:
    """Return the printer class, which quotes what kubectl would read otherwise."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, _: Any) -> bool:
            return True

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            tag = super().resolve(kind, value, implicit)
            text = kind is not yaml.ScalarNode or isinstance(_scalar(value), str)
            return tag if text or tag != f"{_YAML}str" or not implicit[0] else _OPEN

    def represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar(f"{_YAML}str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return Dumper
