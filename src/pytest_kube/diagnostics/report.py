"""One page that shows all that is known of a test: ``report.html``, in one file.

What it shows is written by others: names, annotations, what controllers print. It
stands in the page as JSON in which nothing can end the element that it is in, the
script sets it as text only, and the page's policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from pytest_kube.diagnostics.ci import plain
from pytest_kube.objects import Object
from pytest_kube.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kube.diagnostics.timeline import Entry
    from pytest_kube.history import Version

NAME = "report.html"

# Bytes; together with the page itself they stay below 10 MB.
ENTRIES_LIMIT = 4_500_000
OBJECTS_LIMIT = 4_000_000
LOGS_LIMIT = 1_000_000

FAILURE_LIMIT = 100_000
"""Characters of the failure, at most; its end tells more."""

LONGEST = 2000
"""Characters of a text that are shown."""

_CHUNK = 1_000_000
"""Characters of versions that are packed together: so many are unpacked for a page."""

_NOT_SHOWN = {"managedFields", "resourceVersion"}
# Else a text could end the element that it stands in.
_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&"})


def write(
    path: Path,
    *,
    test: str,
    outcome: str,
    about: Mapping[str, str],
    entries: Sequence[Entry],
    versions: Iterable[Version],
    logs: Mapping[str, str],
    failure: str = "",
    redactor: Redactor | None = None,
) -> None:
    """Write the report of a test.

    Where it would become too large, the oldest entries, the objects that changed first
    and the beginnings of the logs are left out; the page says so.

    Args:
        path: The file.
        test: The node id of the test.
        outcome: How it ended: ``failed``.
        about: The environment: the cluster, the namespace, versions.
        entries: What happened, in order of time.
        versions: The changes of objects; of those that entries tell of, all are shown.
        logs: What controllers and the control plane wrote.
        failure: The text of its failure.
        redactor: What must not be in it; by default the values of Secrets.
    """
    redactor = redactor or Redactor()
    hide = redactor.text
    start = min((e.time for e in entries), default=datetime.now(UTC))
    changed = {e.about for e in entries if e.kind == "change"}
    packed = _packed((v for v in versions if v.ref in changed), start, redactor)
    shown = _newest(entries, start, redactor)
    each = LOGS_LIMIT // max(len(logs), 1)
    data = _joined(
        start=_json(start.isoformat()),
        entries=f"[{','.join(shown)}]",
        objects=f"[{','.join(packed.objects)}]",
        chunks=_json(packed.chunks),
        logs=_joined(
            **{hide(name): _end(hide(text), each) for name, text in logs.items()}
        ),
        leftOut=_json([len(entries) - len(shown), packed.left_out]),
    )
    style, script = _part("report.css"), _part("report.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
        "; base-uri 'none'; form-action 'none'"
    )
    page = Template(_part("report.html")).substitute(
        policy=policy,
        style=style,
        script=script,
        data=data,
        failure=_failure(hide(failure)),
        test=_html(hide(test)),
        outcome=_html(outcome),
        about="\n".join(
            f"<div><dt>{_html(name)}</dt><dd>{_html(hide(text))}</dd></div>"
            for name, text in about.items()
        ),
    )
    # Everything of others is ASCII by now.
    path.write_text(page, "utf-8", newline="\n")


@dataclass
class _Packed:
    """The versions of objects, and which chunk holds those of which object."""

    objects: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    left_out: int = 0


def _packed(
    versions: Iterable[Version], start: datetime, redactor: Redactor
) -> _Packed:
    """Pack versions, those of one object and of similar objects side by side.

    There they compress to what differs, which no other way of storing them beats.
    """
    packed, size = _Packed(), 0
    by_object: dict[tuple[str, str], list[Version]] = {}
    for version in versions:
        by_object.setdefault((_group(version), version.ref), []).append(version)
    newest_first = sorted(by_object.items(), key=lambda item: -item[1][-1].revision)
    for chunk in _chunks(newest_first, start, redactor):
        whole = ("[" + ",".join(text for _, text in chunk) + "]").encode("ascii")
        content = base64.b64encode(zlib.compress(whole)).decode("ascii")
        objects = [
            _json(
                [
                    redactor.text(ref),
                    group,
                    len(by_object[group, ref]),
                    len(packed.chunks),
                    place,
                ]
            )
            for place, ((group, ref), _) in enumerate(chunk)
        ]
        size += len(content) + sum(map(len, objects))
        if size > OBJECTS_LIMIT:
            packed.left_out += len(chunk)
            continue
        packed.chunks.append(content)
        packed.objects += objects
    return packed


def _chunks(
    found: Iterable[tuple[tuple[str, str], list[Version]]],
    start: datetime,
    redactor: Redactor,
) -> Iterator[list[tuple[tuple[str, str], str]]]:
    chunk: list[tuple[tuple[str, str], str]] = []
    for key, versions in found:
        rows = [
            (
                v.revision,
                _since(start, v.time),
                v.user or "",
                v.verb,
                _shown(v.object, redactor),
            )
            for v in versions
        ]
        chunk.append((key, _json([_shown(versions[0].previous, redactor), rows])))
        if sum(len(text) for _, text in chunk) > _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _newest(entries: Sequence[Entry], start: datetime, redactor: Redactor) -> list[str]:
    """Return the newest entries that there is room for, in order of time."""
    found: list[str] = []
    size = 0
    for e in reversed(entries):
        who, about, text = (
            redactor.text(each)[:LONGEST] for each in (e.who, e.about, e.text)
        )
        row = (_since(start, e.time), e.kind, who, about, text, e.revision)
        found.append(_json(row))
        size += len(found[-1]) + 1
        if size > ENTRIES_LIMIT:
            found.pop()
            break
    return found[::-1]


def _end(text: str, limit: int) -> str:
    """Return as JSON what of the end of a text has room."""
    kept = text[-limit:]
    while kept and len(_json(kept)) > limit:
        kept = kept[len(kept) // 2 + 1 :]
    return _json(kept if kept == text else f"…{kept}")


def _shown(obj: dict[str, Any] | None, redactor: Redactor) -> dict[str, Any] | None:
    if obj is None:
        return None
    shown = redactor.object(obj)
    metadata = {k: v for k, v in shown["metadata"].items() if k not in _NOT_SHOWN}
    return {**shown, "metadata": metadata}


def _group(version: Version) -> str:
    obj = version.object or version.previous or Object()
    return str(obj.get("apiVersion", "")).rpartition("/")[0]


def _since(start: datetime, time: datetime) -> float:
    """Return milliseconds."""
    return round((time - start).total_seconds() * 1000, 1)


def _json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.translate(_ESCAPES)


def _joined(**members: str) -> str:
    return "{" + ",".join(f"{_json(k)}:{v}" for k, v in members.items()) + "}"


def _html(text: str) -> str:
    escaped = html.escape(text[:LONGEST])
    return escaped.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _failure(text: str) -> str:
    if not text:
        return ""
    shown = html.escape(plain(text)[-FAILURE_LIMIT:])
    shown = shown.encode("ascii", "xmlcharrefreplace").decode("ascii")
    return f"<details><summary>Failure</summary><pre>{shown}</pre></details>"


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
