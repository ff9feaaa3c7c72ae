"""Keep what is secret out of everything that is written down.

That is the values of Secrets wherever they stand, and what is a credential by its
looks. What is left stays what it was: a Secret that an API server takes, base64 that
decodes, JSON that can be read.
"""

from __future__ import annotations

import base64
import json
import operator
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

from pytest_kube.known_values import KnownValues, Span, bytes_of, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

MASK = "REDACTED"
ENCODED = base64.b64encode(MASK.encode()).decode("ascii")
"""In ``data``, where an API server wants to decode what stands there."""

_MASKS = {MASK, ENCODED}
_CREDENTIAL = 20
"""Characters that a credential has at least, or a Secret as JSON."""

_LETTER = "V"
"""Base64 of it is printable, however the letters fall: ``VVVV`` is ``UUU``."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_REMEMBERED = 2**15
_LONGEST_REMEMBERED = 4096

# Each begins with something that ``in`` finds fast and that is rare.
_PATTERNS = {
    "eyJ": re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}", re.ASCII),
    # Where the end is missing, all that may belong to the key.
    " PRIVATE KEY-----": re.compile(
        r"-----BEGIN [^-\n]*PRIVATE KEY-----(?:"
        r"(?:(?!-----BEGIN).){0,16384}?-----END [^-\n]*PRIVATE KEY-----"
        r"|(?:[\w+/=\s]|\\+[nr])*)",
        re.ASCII | re.DOTALL,
    ),
    "uthorization": re.compile(
        r"""uthorization\\*["']?\s*[:=]\s*[\\"'\[]*(?:Bearer|Basic)\s+([\w.~+/=-]+)""",
        re.ASCII | re.IGNORECASE,
    ),
}
_ENCODED_PATTERNS = {
    start: re.compile(rf"{start}[\w+/-]{{24,}}", re.ASCII)
    for start in ("LS0tLS1CRUdJTi", "ZXlK")  # -----BEGIN, eyJ
}
_OWN = {
    "apiVersion": re.compile(r"(?:[a-z0-9.-]+/)?v\d\w*", re.ASCII),
    "kind": re.compile(r"[A-Z][A-Za-z0-9]*"),
    "resourceVersion": re.compile(r"\d+", re.ASCII),
    "uid": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}
"""What API servers write: a short value that looks like a part of it stays there."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", re.ASCII)


@final
class Redactor:
    """Masks secrets in texts and objects.

    Looked for are the values it knows, as they are, escaped (JSON, JSON in JSON, URL,
    HTML, Python) and in base64, alone or with something before and after them; the
    lines of values, and the leaves of those that are JSON; JSON Web Tokens, private
    keys in PEM, the credentials of ``Authorization:`` headers. A value that is cut is
    known by its first 16 characters.

    Not looked for, except in Secrets themselves: values of less than 4 characters and
    words like ``true`` and ``default``, which would destroy every text and tell
    nothing; parts of less than 8 characters; what is compressed, hashed or otherwise
    encoded; numbers in objects, which have to stay numbers.
    """

    def __init__(
        self, values: Iterable[bytes] = (), public: Collection[str] = ()
    ) -> None:
        self._known = KnownValues(values, public)
        self._shortest = min(self._known.shortest or _CREDENTIAL, _CREDENTIAL)
        # Versions of objects have most of their texts in common.
        self._remembered = lru_cache(_REMEMBERED)(self._of_object)

    @classmethod
    def knowing(
        cls,
        secrets: Iterable[Mapping[str, Any]],
        values: Iterable[str] = (),
        public: Collection[str] = (),
    ) -> Redactor:
        """Return one that knows what stands in Secrets.

        Args:
            secrets: Every version of every Secret there ever was.
            values: Further values, of the environment for example.
            public: What may be shown even if it is the value of a Secret: names.
        """
        known = {value for secret in secrets for value in values_of(secret)}
        return cls(known.union(map(bytes_of, values)), public)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        spans = [*self._known.spans(text), *_credentials(text)]
        if not spans:
            return text
        parts: list[str] = []
        done = 0
        for start, end, encoded in _joined(spans):
            mask = _LETTER * (end - start) if encoded else MASK
            parts += [text[done:start], mask]
            done = end
        return "".join([*parts, text[done:]])

    def object(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return an object without secrets; the same one if there are none in it.

        A Secret keeps its keys and loses its values, wherever it stands: in a list, in
        a field, as JSON in an annotation or in a ConfigMap.
        """
        found: dict[str, Any] = self._value(obj)
        return found if found is obj else obj.__class__(found)

    def _value(self, value: Any) -> Any:
        # One frame for each level, so that it goes as deep as json.loads does.
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, list):
            items = [self._value(item) for item in value]
            return value if all(map(operator.is_, items, value)) else items
        if not isinstance(value, dict):
            return value
        shown = self._masked(value)
        found, same = {}, shown is value
        for key, each in shown.items():
            own = _OWN.get(key)
            if own and isinstance(each, str) and own.fullmatch(each):
                found[key] = each
                continue
            name, new = self._string(key), self._value(each)
            found[name] = new
            same = same and new is each and name is key
        return value if same else found

    def _string(self, text: str) -> str:
        if len(text) < self._shortest or text in _MASKS:
            return text
        if len(text) > _LONGEST_REMEMBERED:
            new = self._of_object(text)
        else:
            new = self._remembered(text)
        return text if new == text else new

    def _of_object(self, text: str) -> str:
        if _TIME.fullmatch(text):
            return text
        if text.lstrip()[:1] in {"{", "["} and ("Secret" in text or "\\" in text):
            try:
                parsed = json.loads(text)
                new = self._value(parsed)
            except (ValueError, RecursionError):
                return self.text(text)
            if new is not parsed:
                text = json.dumps(new, ensure_ascii=False, separators=(",", ":"))
        return self.text(text)

    def _masked(self, value: dict[str, Any]) -> dict[str, Any]:
        kind = value.get("kind")
        if kind == "Secret":
            return self._secret(value)
        if kind == "SecretList" and isinstance(value.get("items"), list):
            # Nobody says of each that it is one.
            items = [
                self._secret(item) if isinstance(item, dict) else item
                for item in value["items"]
            ]
            return {**value, "items": items}
        return value

    def _secret(self, secret: dict[str, Any]) -> dict[str, Any]:
        masked = dict(secret)
        for section, mask in (("data", ENCODED), ("stringData", MASK)):
            if isinstance(masked.get(section), dict):
                masked[section] = dict.fromkeys(masked[section], mask)
            elif masked.get(section):
                masked[section] = None
        metadata = masked.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("annotations"), dict):
            annotations = {
                name: self._copy(text) if _is_copy(name, text) else text
                for name, text in metadata["annotations"].items()
            }
            masked["metadata"] = {**metadata, "annotations": annotations}
        return masked

    def _copy(self, annotation: Any) -> str:
        try:
            copied = {**json.loads(annotation), "kind": "Secret"}
            return json.dumps(self._value(copied), ensure_ascii=False)
        except (ValueError, TypeError, RecursionError):
            return MASK


def _is_copy(name: str, annotation: Any) -> bool:
    """Tell whether an annotation may hold the whole object, as kubectl's and kopf's."""
    return name == _LAST_APPLIED or str(annotation).lstrip().startswith("{")


def _credentials(text: str) -> Iterator[Span]:
    """Yield what is a credential by its looks."""
    for hint, pattern in _PATTERNS.items():
        for found in pattern.finditer(text) if hint in text else ():
            yield Span(*found.span(found.re.groups), encoded=False)
    for hint, pattern in _ENCODED_PATTERNS.items():
        for found in pattern.finditer(text) if hint in text else ():
            standard = found[0].replace("-", "+").replace("_", "/")
            plain = base64.b64decode(standard[: len(standard) // 4 * 4])
            if any(_credentials(plain.decode("utf-8", "replace"))):
                yield Span(*found.span(), encoded=True)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order that do not overlap: what is secret in any is in these."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start < joined[-1].end:
            last = joined.pop()
            both = last.encoded and span.encoded
            span = Span(last.start, max(last.end, span.end), both)  # noqa: PLW2901
        joined.append(span)
    return joined
