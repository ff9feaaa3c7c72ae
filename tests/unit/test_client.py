"""Requests, discovery, watches and kubeconfig files, against a stand-in."""

from __future__ import annotations

import base64
import json
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_kube import login
from pytest_kube.client import Client
from pytest_kube.controlplane.certs import Authority
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    NotFoundError,
    UnknownResourceError,
)

from .fake_api import FakeAPI, fake_api, group, resource, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with fake_api() as api:
        yield api


# --- requests -----------------------------------------------------------------


def test_request_sends_json_with_the_credentials(api: FakeAPI) -> None:
    """The client's own headers, its query and its body arrive."""
    api.answers[PODS] = (201, {"kind": "Pod"})

    answer = api.client.request("POST", PODS, query={"a": "b c"}, body={"x": "é"})

    (request,) = api.requests
    assert answer == {"kind": "Pod"}
    assert (request.method, request.query, request.body) == (
        "POST",
        {"a": "b c"},
        {"x": "é"},
    )
    assert request.headers["X-Who"] == "me"
    assert request.headers["User-Agent"] == "pytest-kube"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("type_", "content_type"),
    [
        ("apply", "application/apply-patch+yaml"),
        ("json", "application/json-patch+json"),
        ("merge", "application/merge-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
    ],
)
def test_patch_names_its_type(api: FakeAPI, type_: str, content_type: str) -> None:
    """The content type is what tells the API server how to read a patch."""
    api.answers[PODS] = (200, {})

    api.client.patch(PODS, {"a": 1}, type_=type_)

    assert api.requests[0].headers["Content-Type"] == content_type


def test_unknown_patch_type_lists_the_known(api: FakeAPI) -> None:
    """A mistake in the test is found before anything is sent."""
    with pytest.raises(ValueError, match="patch type 'marge': allowed are apply, json"):
        api.client.patch(PODS, {}, type_="marge")

    assert api.requests == []


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            status(404, "NotFound", 'pods "x" not found'),
            NotFoundError,
            'GET /x: 404 NotFound: pods "x" not found',
        ),
        (
            status(409, "AlreadyExists", "there already"),
            ConflictError,
            "GET /x: 409 AlreadyExists: there already",
        ),
        (
            status(409, "Conflict", "changed meanwhile"),
            ConflictError,
            "GET /x: 409 Conflict: changed meanwhile",
        ),
        (
            status(422, "Invalid", "size: must be 0 or more"),
            APIError,
            "GET /x: 422 Invalid: size: must be 0 or more",
        ),
        (
            (404, b"404 page not found\n"),
            NotFoundError,
            "GET /x: 404: 404 page not found",
        ),
        (
            (503, b"<html>\xff"),
            APIError,
            "GET /x: 503: <html>\N{REPLACEMENT CHARACTER}",
        ),
        ((500, b""), APIError, "GET /x: 500: "),
        ((500, b"[1]"), APIError, "GET /x: 500: [1]"),
        ((500, {"kind": "Other"}), APIError, 'GET /x: 500: {"kind": "Other"}'),
    ],
)
def test_error_status_becomes_an_exception(
    api: FakeAPI, answer: tuple[int, Any], kind: type[APIError], text: str
) -> None:
    """Method, path, status, reason and message stand in one line."""
    api.answers["/x"] = answer

    with pytest.raises(APIError) as caught:
        api.client.request("GET", "/x")

    assert (type(caught.value), str(caught.value)) == (kind, text)
    assert caught.value.status == answer[0]


def test_exception_carries_the_status_object(api: FakeAPI) -> None:
    """Tests of validation look at its causes."""
    code, body = status(422, "Invalid", "no")
    body["details"] = {"causes": [{"field": "spec.size"}]}
    api.answers["/x"] = (code, body)

    with pytest.raises(APIError) as caught:
        api.client.request("GET", "/x")

    assert caught.value.reason == "Invalid"
    assert caught.value.details == body


def test_answer_that_is_no_json_is_named(api: FakeAPI) -> None:
    """A proxy's welcome page is shown as what it is."""
    api.answers["/x"] = (200, b"<html>Welcome")

    with pytest.raises(ClusterError) as caught:
        api.client.request("GET", "/x")

    assert str(caught.value) == (
        f"GET {api.url}/x: the answer is not JSON but '<html>Welcome'; is this an API "
        "server, or a proxy before it?"
    )


def test_text_is_returned_as_it_is(api: FakeAPI) -> None:
    """Health checks and logs answer in plain text."""
    api.answers["/readyz"] = (200, b"ok")
    api.answers["/livez"] = (500, b"[-]etcd failed\n")

    assert api.client.text("/readyz") == "ok"
    with pytest.raises(APIError, match=r"GET /livez: 500: \[-\]etcd failed"):
        api.client.text("/livez")


def test_closed_connection_is_no_answer(api: FakeAPI) -> None:
    """The URL that was asked stands in the error."""
    api.answers["/x"] = (0, None)

    with pytest.raises(ClusterError) as caught:
        api.client.request("GET", "/x")

    text = str(caught.value)
    assert text.startswith(f"GET {api.url}/x: no answer from the API server: ")
    assert "Remote end closed connection without response" in text


def test_server_that_is_gone_is_no_answer() -> None:
    """Nothing listens any more."""
    with fake_api() as api:
        pass

    with pytest.raises(ClusterError, match="no answer from the API server: .*refused"):
        api.client.request("GET", "/x")


def test_silence_is_no_answer(api: FakeAPI) -> None:
    """A server that hangs does not hang the test."""
    go_on = threading.Event()
    api.answers["/x"] = lambda _: (200 if go_on.wait(2) else 0, {})

    with pytest.raises(
        ClusterError, match="no answer from the API server: .*timed out"
    ):
        api.client.request("GET", "/x", timeout=0.05)

    go_on.set()


# --- discovery ----------------------------------------------------------------


def test_discovery_is_parsed(api: FakeAPI) -> None:
    """Core comes first, then the groups in the order of the server."""
    found = api.client.resources()

    names = [r.full_name for r in found]
    assert names[:2] == ["configmaps", "events"]
    assert names[-3:] == [
        "deployments.apps",
        "events.events.k8s.io",
        "widgets.example.com",
    ]
    widget = found[-1]
    assert (widget.api_version, widget.kind, widget.singular, widget.short_names) == (
        "example.com/v1",
        "Widget",
        "widget",
        ("wi",),
    )
    assert widget.namespaced
    assert "watch" in widget.verbs
    assert widget.subresources.keys() == {"status"}


def test_stale_group_is_left_out(api: FakeAPI) -> None:
    """An aggregated API that is down serves nothing."""
    metrics = group("metrics.k8s.io", "v1", resource("pods", "PodMetrics"))
    metrics["versions"][0]["freshness"] = "Stale"
    api.groups.append(metrics)

    assert "metrics.k8s.io" not in {r.group for r in api.client.resources()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pods", "pods"),
        ("pod", "pods"),
        ("po", "pods"),
        ("Pod", "pods"),
        ("PODS", "pods"),
        ("deploy", "deployments.apps"),
        ("deployments.apps", "deployments.apps"),
        ("Deployment.apps", "deployments.apps"),
        ("deploy.v1.apps", "deployments.apps"),
        ("events", "events"),
        ("events.events.k8s.io", "events.events.k8s.io"),
        ("widgets.example.com", "widgets.example.com"),
    ],
)
def test_resource_is_found_by_every_name(
    api: FakeAPI, name: str, expected: str
) -> None:
    """Plural, singular, short name or Kind, with or without version and group."""
    assert api.client.resource(name).full_name == expected


def test_resource_of_an_object_is_found_by_version_and_kind(api: FakeAPI) -> None:
    """The same Kind exists in several groups."""
    event = {"apiVersion": "events.k8s.io/v1", "kind": "Event"}

    assert api.client.resource_of(event).full_name == "events.events.k8s.io"


def test_paths_are_those_of_the_api(api: FakeAPI) -> None:
    """Core is under /api, groups are under /apis, cluster scope has no namespace."""
    client = api.client

    assert client.resource("po").path("ns", "x", "log") == (
        "/api/v1/namespaces/ns/pods/x/log"
    )
    assert client.resource("wi").path("ns") == (
        "/apis/example.com/v1/namespaces/ns/widgets"
    )
    assert client.resource("wi").path() == "/apis/example.com/v1/widgets"
    assert client.resource("ns").path("ns", "x") == "/api/v1/namespaces/x"


def test_discovery_is_asked_once_and_again_when_a_kind_is_missing(
    api: FakeAPI,
) -> None:
    """A CRD that the test itself installed is found."""
    api.client.resource("pods")
    api.client.resource("deployments")
    before = len(api.asked("/apis"))
    api.groups.append(group("new.io", "v1", resource("gadgets", "Gadget")))

    found = api.client.resource("gadgets")

    assert found.full_name == "gadgets.new.io"
    assert (before, len(api.asked("/apis"))) == (1, 2)


def test_unknown_kind_lists_names_near_it(api: FakeAPI) -> None:
    """The likely typo, and the likely cause."""
    with pytest.raises(UnknownResourceError) as caught:
        api.client.resource("wigdets")

    assert caught.value.kind == "wigdets"
    assert str(caught.value) == (
        "the API server serves no kind 'wigdets'; near it: Widget (example.com/v1). "
        "If a CRD defines it, name its file in kube_crds"
    )


def test_unknown_version_names_it(api: FakeAPI) -> None:
    """The kind exists, in another version."""
    with pytest.raises(UnknownResourceError) as caught:
        api.client.resource_of({"apiVersion": "example.com/v2", "kind": "Widget"})

    assert str(caught.value) == (
        "the API server serves no kind 'Widget' in example.com/v2; near it: Widget "
        "(example.com/v1). If a CRD defines it, name its file in kube_crds"
    )


def test_nothing_near_is_not_invented(api: FakeAPI) -> None:
    """Without a similar name there is no list."""
    with pytest.raises(UnknownResourceError, match=r"no kind 'zzz'\. If a CRD"):
        api.client.resource("zzz")


# --- watches ------------------------------------------------------------------


def test_watch_puts_split_events_together(api: FakeAPI) -> None:
    """Chunks of the connection have nothing to do with lines, or with characters."""
    api.put(PODS)
    events = [{"type": "ADDED", "object": {"n": n, "text": "é"}} for n in range(3)]
    data = b"".join(
        json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events
    )

    watch = api.client.watch(PODS, {"resourceVersion": "7"})
    stream = api.next_watch()
    middle = data.index("é".encode()) + 1
    for chunk in (data[:3], data[3:middle], data[middle:-1], data[-1:]):
        stream.raw(chunk)
    stream.end()

    assert list(watch) == events
    assert stream.query == {"resourceVersion": "7", "watch": "true"}


def test_watch_that_breaks_off_ends(api: FakeAPI) -> None:
    """Half an event is none."""
    api.put(PODS)
    watch = api.client.watch(PODS, {})
    stream = api.next_watch()

    stream.raw(b'{"type": "ADDED", "object": {}}\n{"type": "MOD')
    stream.end()

    assert list(watch) == [{"type": "ADDED", "object": {}}]


def test_watch_closed_by_another_thread_ends(api: FakeAPI) -> None:
    """The iteration that waits for an event returns; to close twice is no error."""
    api.put(PODS)
    watch = api.client.watch(PODS, {})
    stream = api.next_watch()
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def iterate() -> None:
        for event in watch:
            seen.put(event)
        seen.put("end")

    thread = threading.Thread(target=iterate)
    thread.start()
    stream.send("ADDED", {})
    first = seen.get(timeout=2)
    watch.close()
    watch.close()

    assert first["type"] == "ADDED"
    assert seen.get(timeout=2) == "end"
    thread.join()


def test_refused_watch_is_an_api_error(api: FakeAPI) -> None:
    """What is not there cannot be watched."""
    with pytest.raises(NotFoundError, match="WATCH /nothing: 404 NotFound"):
        api.client.watch("/nothing", {})


# --- kubeconfig ---------------------------------------------------------------


def config(user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    """Return a kubeconfig's content."""
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://c/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }


def credentials(folder: Path, content: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the server and the headers of a kubeconfig."""
    path = folder / "config"
    path.write_text(yaml.safe_dump(content), "utf-8")
    found = login.read(path)
    return found.server, found.headers


def test_token_becomes_a_header(tmp_path: Path) -> None:
    """Tokens stand in the kubeconfig or in a file beside it."""
    (tmp_path / "token").write_text("from-file\n")

    inline = credentials(tmp_path, config({"token": "secret"}))
    file = credentials(tmp_path, config({"tokenFile": "token"}))

    assert inline == ("https://c", [("Authorization", "Bearer secret")])
    assert file == ("https://c", [("Authorization", "Bearer from-file")])


def test_client_certificates_are_taken_from_data_or_files(tmp_path: Path) -> None:
    """Both forms are read, and no key stays behind in a temporary file."""
    authority = Authority()
    pair = authority.client("jane")
    files = {
        "ca.crt": authority.certificate,
        "u.crt": pair.certificate,
        "u.key": pair.key,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    encoded = {name: base64.b64encode(data).decode() for name, data in files.items()}

    from_files = config(
        {"client-certificate": "u.crt", "client-key": "u.key"},
        **{"certificate-authority": "ca.crt"},
    )
    inline = config(
        {
            "client-certificate-data": encoded["u.crt"],
            "client-key-data": encoded["u.key"],
        },
        **{"certificate-authority-data": encoded["ca.crt"]},
    )

    assert credentials(tmp_path, from_files) == ("https://c", [])
    assert credentials(tmp_path, inline) == ("https://c", [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "kubeconfig FILE: no context ''; there are: none"),
        (
            {**config({}), "current-context": "there"},
            "kubeconfig FILE: no context 'there'; did you mean here? There are: here",
        ),
        (
            {**config({}), "clusters": None},
            "kubeconfig FILE: no cluster 'c'; there are: none",
        ),
        (
            {**config({}), "users": [{"name": "v", "user": {}}]},
            "kubeconfig FILE: no user 'u'; there are: v",
        ),
        (config({}, server=""), "kubeconfig FILE: its cluster has no server"),
        (
            config({"username": "jane", "password": "x"}),
            (
                "the kubeconfig's user logs in by username, which is not supported; use "
                "an exec plug-in, a client certificate or a token"
            ),
        ),
        (
            config({"auth-provider": {"name": "gcp"}}),
            (
                "the kubeconfig's user logs in by auth-provider, which is not supported; "
                "use an exec plug-in, a client certificate or a token"
            ),
        ),
        (
            config({}, **{"certificate-authority": "gone.crt"}),
            (
                "kubeconfig FILE: unusable credentials: [Errno 2] No such file or "
                "directory: 'FOLDER/gone.crt'"
            ),
        ),
        (
            config({}, **{"certificate-authority-data": "no base64"}),
            "kubeconfig FILE: unusable credentials: ",
        ),
        (
            config(
                {
                    "client-certificate-data": base64.b64encode(b"x").decode(),
                    "client-key-data": base64.b64encode(b"y").decode(),
                }
            ),
            "kubeconfig FILE: unusable credentials: ",
        ),
    ],
)
def test_unusable_kubeconfig_says_why(
    tmp_path: Path, content: dict[str, Any], expected: str
) -> None:
    """File, section and what is there instead; or what to use instead."""
    with pytest.raises(ClusterError) as caught:
        credentials(tmp_path, content)

    text = str(caught.value).replace(str(tmp_path / "config"), "FILE")
    assert text.replace(str(tmp_path), "FOLDER").startswith(expected)


def test_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    """The path stands in the error."""
    path = tmp_path / "nowhere"

    with pytest.raises(ClusterError) as caught:
        Client.from_kubeconfig(path)

    assert str(caught.value) == f"kubeconfig {path}: No such file or directory"


def test_client_remembers_its_kubeconfig(tmp_path: Path) -> None:
    """Programs under test are given the same file."""
    path = tmp_path / "config"
    path.write_text(json.dumps(config({"token": "x"})))

    client = Client.from_kubeconfig(path)

    assert (client.server, client.kubeconfig) == ("https://c", path)
