"""The values of Secrets stay out of what is written down."""

from __future__ import annotations

import base64
import copy
import gzip
import html
import json
import tempfile
import zlib
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kube.diagnostics import crust_gather, report
from pytest_kube.diagnostics.timeline import Entry, Line
from pytest_kube.history import Version
from pytest_kube.objects import Object
from pytest_kube.redact import Redactor
from pytest_kube.state import archive_file
from pytest_kube.state.archive import About, Stored

from .fake_api import fake_api, group, resource

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"
MASKED = "UkVEQUNURUQ="
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "annotations": {"team": "a"}},
    "type": "Opaque",
    "data": {"key": "dmFsdWU=", "empty": ""},
    "stringData": {"text": "value"},
}


def annotated(text: str) -> dict[str, Any]:
    """Return a Secret with one annotation."""
    return {"kind": "Secret", "metadata": {"annotations": {LAST_APPLIED: text}}}


def test_values_of_a_secret_are_masked() -> None:
    """The keys stay: which of them are there often explains a failure."""
    assert Redactor().object(SECRET) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {"team": "a"}},
        "type": "Opaque",
        "data": {"key": MASKED, "empty": MASKED},
        "stringData": {"text": "REDACTED"},
    }
    assert base64.b64decode(MASKED) == b"REDACTED"


@pytest.mark.parametrize("name", [LAST_APPLIED, LAST_HANDLED])
def test_copies_in_annotations_are_masked_and_stay_readable(name: str) -> None:
    """kubectl and kopf keep the whole object there, and read it again."""
    copied = json.dumps({"data": {"key": "dmFsdWU="}, "stringData": {"a": "b"}})
    secret = {"kind": "Secret", "metadata": {"annotations": {name: copied}}}

    annotation = Redactor().object(secret)["metadata"]["annotations"][name]

    assert json.loads(annotation) == {
        "kind": "Secret",
        "data": {"key": MASKED},
        "stringData": {"a": "REDACTED"},
    }


def test_copy_in_a_copy_is_masked() -> None:
    """An object that was read and applied again brings its annotation along."""
    inner = json.dumps(annotated('{"data": {"key": "dmFsdWU="}}'))

    assert "dmFsdWU=" not in json.dumps(Redactor().object(annotated(inner)))


def test_annotation_that_is_half_a_copy_is_masked_whole() -> None:
    """What cannot be read cannot be masked in part."""
    assert Redactor().object(annotated('{"data": {"key": "dmFs')) == annotated(
        "REDACTED"
    )


def test_secret_itself_stays_as_it_was() -> None:
    """The test goes on with the object."""
    secret = copy.deepcopy(SECRET)

    Redactor().object(secret)

    assert secret == SECRET


def test_secret_without_values_is_none_the_worse() -> None:
    """Everything but the kind may be missing or null."""
    bare = {"kind": "Secret"}
    null = {"kind": "Secret", "metadata": {"annotations": None}, "data": None}

    assert Redactor().object(bare) == bare
    assert Redactor().object(null) == null


def test_values_of_another_shape_are_left_out() -> None:
    """No Secret, but nothing to be written down either."""
    assert Redactor().object({"kind": "Secret", "data": ["dmFsdWU="]}) == {
        "kind": "Secret",
        "data": None,
    }


def test_other_objects_stay_as_they_are() -> None:
    """A ConfigMap hides nothing that is not known."""
    config_map = {"kind": "ConfigMap", "data": {"key": "value"}}

    assert Redactor().object(config_map) is config_map


# --- known values ---------------------------------------------------------------

VALUE = "s3cr3t-Välue/\"<&>'1"


def b64(text: str | bytes) -> str:
    """Return base64."""
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode("ascii")


def knowing(*values: str | bytes, public: tuple[str, ...] = ()) -> Redactor:
    """Return one that knows the values of a Secret."""
    data = {f"k{i}": b64(value) for i, value in enumerate(values)}
    return Redactor.knowing([{"kind": "Secret", "data": data}], public=public)


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(VALUE))[3:-3],
        repr(VALUE)[1:-1],
        html.escape(VALUE),
    ],
)
def test_value_is_masked_however_it_is_escaped(form: str) -> None:
    """In a log, in JSON, in JSON in JSON, in HTML."""
    assert knowing(VALUE).text(f"is {form}!") == "is REDACTED!"


@pytest.mark.parametrize("before", ["", "u", "us", "usr"])
def test_base64_is_masked_wherever_the_value_begins_in_it(before: str) -> None:
    """What was encoded with it stays, and the rest still decodes."""
    masked = knowing("hunter2-hunter2").text(b64(f"{before}hunter2-hunter2:x"))

    decoded = base64.b64decode(masked).decode()
    assert decoded.startswith(before)
    assert decoded.endswith(":x")
    assert "unter" not in decoded


def test_a_longer_value_wins_and_overlaps_are_masked_as_one() -> None:
    """Else the rest of one would stand there."""
    redactor = knowing("abcdef", "abcdefghi", "ghijkl")

    assert redactor.text("<abcdefghi> <abcdef> <abcdefghijkl>") == (
        "<REDACTED> <REDACTED> <REDACTED>"
    )


def test_value_that_is_cut_is_masked() -> None:
    """The differences of the timeline end after some characters."""
    value = "0123456789abcdefghijklmnop"

    assert knowing(value).text(f"a: {value[:20]}…") == "a: REDACTED…"
    assert knowing(value).text(f"a: {value[:20]}-") == f"a: {value[:20]}-"


def test_value_whose_middle_is_left_out_is_masked() -> None:
    """As pytest shortens what it shows of an assertion."""
    redactor = knowing("correct horse")

    shown = redactor.text("{'p': ...dCBob3JzZQ=='} 'Y29ycmVjdC...JzZQ==' Waiting...")

    assert shown == "{'p': ...VVVVVVVVVV=='} 'VVVVVVVVVV...JzZQ==' Waiting..."


def test_lines_and_leaves_of_a_value_are_masked() -> None:
    """A key is indented line by line; a password stands in a file of settings."""
    redactor = knowing(
        "password: hunter2hunter2\nuser: me",
        '{"auths": {"r": {"password": "correct-horse"}}}',
        "first line of it\nsecond line of it\n",
    )

    text = redactor.text("hunter2hunter2 correct-horse\n  second line of it\nuser: me")
    assert text == "REDACTED REDACTED\n  REDACTED\nuser: me"


def test_short_values_and_words_stay_in_texts() -> None:
    """They would destroy every text; a name that is public is one as well."""
    redactor = knowing("abc", "true", "Default", "my-name", public=("my-name",))

    assert redactor.text("abc true Default my-name") == "abc true Default my-name"


def test_public_parts_of_a_token_stay() -> None:
    """The certificate of the cluster is in every namespace."""
    secret = {
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "data": {"ca.crt": b64("certificate"), "token": b64("the-token")},
    }

    redactor = Redactor.knowing([secret], ["of-the-environment"])

    assert redactor.text("certificate the-token of-the-environment") == (
        "certificate REDACTED REDACTED"
    )


def test_credentials_are_masked_by_their_looks() -> None:
    """Nobody has to know them."""
    jwt = f"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrOHMifQ.{'a1' * 20}"
    pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
    text = Redactor().text

    assert text(f"token {jwt}.") == "token REDACTED."
    assert text(f"a\n{pem}\nb") == "a\nREDACTED\nb"
    assert text(json.dumps({"key": pem})) == '{"key": "REDACTED"}'
    assert text(f"client-key-data: {b64(pem)}").strip("=") == (
        f"client-key-data: {'V' * len(b64(pem).strip('='))}"
    )
    assert text("Authorization: Bearer abc.def") == "Authorization: Bearer REDACTED"
    assert text("'authorization': 'Basic dTpw'") == "'authorization': 'Basic REDACTED'"
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    for public in (certificate, b64(certificate), "basic authorization: none"):
        assert text(public) == public


def test_secrets_within_objects_are_masked() -> None:
    """In lists, and as JSON in a ConfigMap."""
    listed = {"kind": "SecretList", "items": [{"data": {"a": "dmFsdWU="}}]}
    text = {"kind": "ConfigMap", "data": {"x": json.dumps(SECRET)}}

    assert Redactor().object(listed)["items"] == [{"data": {"a": MASKED}}]
    inner = json.loads(Redactor().object(text)["data"]["x"])
    assert inner["data"] == {"key": MASKED, "empty": MASKED}


def test_what_api_servers_write_stays() -> None:
    """A value of four digits is in many times and versions."""
    obj = Object(
        apiVersion="v1",
        kind="Widget",
        metadata={
            "resourceVersion": "20261",
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        spec={"pin": "2026", "Widget": ["2026", 2026]},
    )

    shown = knowing("2026", "Widget").object(obj)

    assert isinstance(shown, Object)
    assert shown["metadata"] == obj["metadata"]
    assert shown["spec"] == {"pin": "REDACTED", "REDACTED": ["REDACTED", 2026]}


# --- nothing gets out -----------------------------------------------------------

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RARE = st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])
SECRETS_OF_TESTS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["q7", "Zü", "<&", "'\"", "\\x"]),
    st.text(RARE, min_size=8, max_size=40),
    st.sampled_from(["", "\n", "\t", " "]),
    st.text(RARE, min_size=8, max_size=40),
)


class Data(HTMLParser):
    """The data of a report."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def planted(value: str) -> dict[str, Any]:
    """Return an object with a value everywhere that somebody might write it."""
    copy_ = json.dumps({"kind": "Secret", "data": {"a": b64(value)}})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "c",
            "namespace": "team",
            "annotations": {"a": value, LAST_APPLIED: json.dumps({"x": copy_})},
        },
        "data": {
            value: value,
            "text": f"url: https://me:{value}@host",
            "json": json.dumps({"a": [json.dumps(value)]}),
            "base64": b64(f"me:{value}") + b64(f"{value}!"),
        },
        "spec": [{"env": [{"name": "P", "value": f"-{value}-"}]}],
    }


def everything(folder: Path) -> list[str]:
    """Return all that was written, as it reads unpacked."""
    texts = []
    for path in (p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        texts += [str(path), data.decode()]
        if path.suffix == ".html":
            texts += (found := Data(data.decode()).texts)
            shown = next(json.loads(t) for t in found if t.startswith('{"start"'))
            packed = map(base64.b64decode, shown["chunks"])
            texts += [zlib.decompress(chunk).decode() for chunk in packed]
    for text in [*texts]:
        for line in (text, *text.splitlines()):
            try:
                texts += strings(json.loads(line))
            except ValueError:
                continue
    return texts


def strings(value: Any) -> list[str]:
    """Return every text in a value."""
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (k, *strings(v))]
    if isinstance(value, list):
        return [s for v in value for s in strings(v)]
    return [value] if isinstance(value, str) else []


def write_all(folder: Path, value: str, redactor: Redactor) -> None:
    """Write every artifact of a test in which somebody wrote a value everywhere."""
    before, after = Object(planted("nothing")), Object(planted(value))
    secret = Object({**SECRET, "metadata": {"name": "s", "namespace": "team"}})
    secret["data"] = {"a": b64(value)}
    history = [
        Version(secret, None, 1, TIME.isoformat(), lambda *_: None),
        Version(after, before, 2, TIME.isoformat(), lambda *_: None),
    ]
    log = f"it is {value}, encoded {b64(value)}, as JSON {json.dumps(value)}"
    report.write(
        folder / report.NAME,
        test=f"test[{value}]",
        outcome="failed",
        about={"cluster": log},
        entries=[
            Entry(TIME, "change", "me", history[1].ref, f"a: {value}"),
            Entry(TIME, "log", "me", "", log),
        ],
        versions=history,
        logs={"controller": log},
        redactor=redactor,
    )
    about = About("1.36.3", "kwok", "team", f"test[{value}]", TIME, 1, 2)
    stored = [Stored("/registry/x", v.revision, v.object) for v in history]
    path = folder / archive_file.NAME
    archive_file.write(path, about, stored, stored, redactor=redactor)
    resources = resource("secrets", "Secret"), resource("configmaps", "ConfigMap")
    with fake_api() as api:
        api.answers["/version"] = 200, {"gitVersion": "v1.36.3"}
        api.answers["/api"] = 200, {"items": [group("", "v1", *resources)]}
        api.answers["/apis"] = 200, {"items": []}
        crust_gather.write(
            folder / "cg",
            api.client,
            [],
            history,
            [Line(TIME, "controller", log)],
            redactor=redactor,
        )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(value=SECRETS_OF_TESTS)
def test_no_artifact_holds_a_value_that_was_planted_everywhere(value: str) -> None:
    """Neither as it is, nor in base64, in anything that is written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(folder, value, knowing(value))

        for text in everything(folder):
            assert value not in text
            assert b64(value).rstrip("=") not in text
            assert b64(f"me:{value}").rstrip("=")[6:] not in text


def test_the_planted_value_would_be_found(tmp_path: Path) -> None:
    """The search of the test before this one sees what nobody hides."""
    write_all(tmp_path, VALUE, Redactor())

    found = everything(tmp_path)
    assert any(VALUE in text for text in found)
    assert any(b64(VALUE) in text for text in found)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(value=st.binary(min_size=6), before=st.binary(), after=st.binary())
def test_binary_value_is_not_in_base64(
    value: bytes, before: bytes, after: bytes
) -> None:
    """Whatever was encoded with it; the field decodes to as many bytes."""
    field = b64(before + value + after)

    shown = knowing(value).object({"data": field})["data"]

    if value.strip() and len(value.strip()) >= 6 and "REDACTED" not in shown:
        assert len(base64.b64decode(shown)) == len(base64.b64decode(field))
        assert value not in base64.b64decode(shown)
