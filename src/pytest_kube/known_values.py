"""Which values of Secrets are known, in which forms they may be written, and where.

Finding them costs the same for ten values as for a thousand: every few characters of a
text are looked up among the beginnings of all forms.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

SHORTEST = 4
"""Characters of a value that is looked for: of fewer, every text is full."""

_SHORTEST_PART = 8
_SHORTEST_ENCODED = 6
_LONGEST_IN_PARTS = 64 * 1024
_RECOGNISED = 16
"""Characters by which a value is known that somebody has cut."""

# What every object is full of, and what tells nothing.
_WORDS = frozenset(
    {"annotations", "apiversion", "data", "default", "enabled", "false", "items"}
    | {"kind", "kube-system", "kubernetes", "labels", "metadata", "name", "namespace"}
    | {"none", "null", "object", "opaque", "secret", "spec", "status", "string"}
    | {"true", "type", "undefined"}
)
# A line of an environment file, of properties, of YAML.
_NAMED = re.compile(
    r"[\s\"'-]*[\w./-]+[\"']?(?::\s+|:$|\s*=\s*(?=[^=\s]))(.*)", re.DOTALL
)
_REST = 6
"""Characters on one side of an ellipsis that tell something."""

_WORD = r"[\w+/-]{6,256}"
_GAP = re.compile(rf"(?P<before>(?<![\w+/-]){_WORD})?(?:\.\.\.|…)(?P<after>{_WORD}=*)?")
_PUBLIC_IN_TOKENS = {"ca.crt", "namespace"}
# Go's encoder writes them so in every JSON, for the sake of HTML.
_AS_GO = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

_GRAM = 4
_STEP = 5
_INDEXED = _GRAM + _STEP - 1
"""Where so many characters stand, one of their grams is at a multiple of the step."""


class Span(NamedTuple):
    """A place in a text, and whether it is base64 that has to stay so."""

    start: int
    end: int
    encoded: bool


class KnownValues:
    """Values that are looked for in texts, in all their forms."""

    def __init__(self, values: Iterable[bytes], public: Collection[str] = ()) -> None:
        unknown = {*public, ""}
        forms: dict[str, bool] = {}
        for value in {part for whole in values for part in _parts(whole)}:
            text = _decoded(value)
            if text in unknown or (text or "").lower() in _WORDS:
                continue
            if text is not None and len(text) < SHORTEST:
                continue
            forms.update(dict.fromkeys(_encodings(value), True))
            if text is not None:
                forms.update(dict.fromkeys(_spellings(text), False))
        self._starts: dict[str, list[str]] = {}
        self._ends: dict[str, list[str]] = {}
        for form in forms:
            if len(form) > _REST:
                self._starts.setdefault(form[:_REST], []).append(form)
                self._ends.setdefault(form[-_REST:], []).append(form)
        self._forms = forms
        self.shortest = min(_RECOGNISED, *map(len, forms)) if forms else 0
        self._short = [(f, e) for f, e in forms.items() if len(f) < _INDEXED]
        self._grams: dict[str, list[tuple[str, int, bool]]] = {}
        for form, encoded in forms.items():
            for at in range(_STEP if len(form) >= _INDEXED else 0):
                gram = form[at : at + _GRAM]
                self._grams.setdefault(gram, []).append((form, at, encoded))

    def spans(self, text: str) -> Iterator[Span]:
        """Yield every place where one of them stands, however they overlap."""
        if not self.shortest or len(text) < self.shortest:
            return
        for form, encoded in self._short:
            start = text.find(form)
            while start >= 0:
                yield Span(start, start + len(form), encoded)
                start = text.find(form, start + 1)
        yield from self._beside_gaps(text)
        grams = self._grams
        places = range(0, len(text) - _GRAM + 1, _STEP) if grams else ()
        for place in [i for i in places if text[i : i + _GRAM] in grams]:
            for form, at, encoded in grams[text[place : place + _GRAM]]:
                start = place - at
                if start >= 0 and (length := _common(text, start, form)):
                    yield Span(start, start + length, encoded)

    def _beside_gaps(self, text: str) -> Iterator[Span]:
        """Yield what is left of a form whose middle was replaced by an ellipsis."""
        for gap in _GAP.finditer(text):
            before, after = gap["before"] or "", (gap["after"] or "").rstrip("=")
            for form in self._starts.get(before[:_REST], ()):
                if form.startswith(before):
                    yield Span(*gap.span("before"), self._forms[form])
            for form in self._ends.get(after[-_REST:], ()):
                if form.endswith(after):
                    start = gap.start("after")
                    yield Span(start, start + len(after), self._forms[form])


def _common(text: str, start: int, form: str) -> int:
    """Return how much of a form stands there: all, its beginning if it is cut, or 0."""
    if text.startswith(form, start):
        return len(form)
    if len(form) <= _RECOGNISED or not text.startswith(form[:_RECOGNISED], start):
        return 0
    low, high = _RECOGNISED, len(form)
    while high - low > 1:
        middle = (low + high) // 2
        if text.startswith(form[:middle], start):
            low = middle
        else:
            high = middle
    end = start + low
    return low if end == len(text) or text.startswith(("…", "..."), end) else 0


# --- what a Secret holds --------------------------------------------------------


def values_of(secret: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the values of a Secret, also those in the copies in its annotations."""
    token = secret.get("type") == "kubernetes.io/service-account-token"
    public = _PUBLIC_IN_TOKENS if token else ()
    for section in ("data", "stringData"):
        values = secret.get(section)
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, str) and name not in public:
                yield _from_base64(value) if section == "data" else bytes_of(value)
    metadata = secret.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    for text in annotations.values() if isinstance(annotations, dict) else ():
        if isinstance(text, str) and text.lstrip().startswith("{"):
            copy = _json(text)
            if isinstance(copy, dict):
                yield from values_of({"type": secret.get("type"), **copy})


def bytes_of(value: str) -> bytes:
    """Return a value as it is in the environment, or as JSON has it."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return bytes_of(text)


def _parts(value: bytes) -> Iterator[bytes]:
    """Yield a value and what of it may stand alone: lines, what lines set, leaves."""
    value = value.strip()  # ``echo`` adds a line break that is not printed later
    yield value
    text = _decoded(value)
    if text is None or len(text) > _LONGEST_IN_PARTS:
        return
    structured = _json(text) if text.startswith(("{", "[")) else None
    found = list(_leaves(structured))
    if structured is None and len(lines := text.splitlines()) > 1:
        found += [
            named[1].strip().strip("\"'") if (named := _NAMED.fullmatch(line)) else line
            for line in map(str.strip, lines)
            if not line.startswith("-----")
        ]
    for part in found:
        if len(part.strip()) >= _SHORTEST_PART:
            yield bytes_of(part.strip())


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield from value.splitlines()
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# --- how a value may be written -------------------------------------------------


def _encodings(value: bytes) -> Iterator[str]:
    """Yield base64 that holds a value, without what depends on its neighbours.

    Where a value is all that was encoded, its last character is part of it.
    """
    found = [base64.b64encode(value).decode("ascii").rstrip("=")]
    for offset, first in enumerate((0, 2, 3)):
        encoded = base64.b64encode(bytes(offset) + value).decode("ascii")
        found.append(encoded[first : (offset + len(value)) * 8 // 6])
    for form in found:
        if len(form) >= _SHORTEST_ENCODED:
            yield form
            yield form.replace("+", "-").replace("/", "_")


def _spellings(text: str) -> set[str]:
    found = {text}
    for _ in range(2):  # JSON in JSON is common
        found |= {
            spelled
            for each in found
            for ascii_only in (True, False)
            for escaped in (json.dumps(each, ensure_ascii=ascii_only)[1:-1],)
            for spelled in (escaped, escaped.translate(_AS_GO))
        }
    found |= {repr(each)[1:-1] for each in found}  # as a failed assertion has it
    quoted = (quote(text, ""), quote(text), quote_plus(text))
    return {*found, *quoted, html.escape(text), html.escape(text, quote=False)}
