"""What is collected of a failed test, as a section of the report and as files."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_kube.cluster import Cluster
from pytest_kube.diagnostics import evidence as evidence_module
from pytest_kube.diagnostics import report
from pytest_kube.diagnostics.collect import collect
from pytest_kube.errors import ClusterError
from pytest_kube.kube import Kube
from pytest_kube.state import archive_file
from pytest_kube.state.etcd import Change, Entry
from pytest_kube.system.processes import OutputLine

from .fake_api import FakeAPI, fake_api, status
from .test_requests_log import event as event_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORE = "/api/v1/namespaces/team"
VALUE = "c2VjcmV0LXZhbHVl"
NO_REPLAY = (
    "replay      not possible: the etcd of the envtest cluster, Kubernetes v1.36.3 is "
    "out of reach"
)


@dataclass
class Controller:
    """What diagnostics need to know of a controller under test."""

    name: str = "mine"
    user: str = "controller-1"
    credential: str = ""
    exited: Future[None] = field(default_factory=Future)
    errors: list[str] = field(default_factory=list)
    output: str = "one\ntwo"

    def lines(self) -> list[OutputLine]:
        moment = datetime(2026, 11, 23, 13, 43, 36, tzinfo=UTC)
        return [OutputLine(moment, line) for line in self.output.splitlines()]

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.output.splitlines()[-lines:])

    def failure(self) -> Exception | None:
        return None

    def summary(self) -> str:
        return f"{self.name}: running"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    """An API server with empty collections."""
    with fake_api() as api:
        for path in (
            *(
                f"{CORE}/{plural}"
                for plural in ("configmaps", "events", "pods", "secrets")
            ),
            "/apis/apps/v1/namespaces/team/deployments",
            "/apis/example.com/v1/namespaces/team/widgets",
        ):
            api.put(path)
        yield api


@pytest.fixture
def kube(api: FakeAPI, tmp_path: Path) -> Kube:
    """A handle on its cluster, whose etcd has a log."""
    log = tmp_path / "etcd.log"
    log.write_text("".join(f"line {n}\n" for n in range(1000)))
    cluster = Cluster(
        provider="envtest",
        version="1.36.3",
        client=api.client,
        guardian=SimpleNamespace(),  # type: ignore[arg-type]
        capabilities=frozenset(),
        identity=lambda *_: log,
        logs={"etcd": log, "kube-apiserver": tmp_path / "missing.log"},
    )
    return Kube(cluster, "team")


def named(name: str, **more: Any) -> dict[str, Any]:
    """Return an object as lists have it."""
    metadata = {"name": name, "namespace": "team", "managedFields": [{"manager": "x"}]}
    return {"metadata": metadata, **more}


def event(
    version: int, reason: str, type_: str = "Warning", *, message: str = ""
) -> dict[str, Any]:
    """Return an event about the pod web."""
    return {
        "metadata": {"name": f"e{version}", "resourceVersion": str(version)},
        "type": type_,
        "reason": reason,
        "message": message or f"{reason} it",
        "involvedObject": {"kind": "Pod", "name": "web"},
    }


def section(kube: Kube, folder: Path | None = None) -> list[str]:
    """Return the lines of the section."""
    return collect(
        kube, folder, shown="artifacts/t", test="t.py::t", failure="E   not so"
    ).split("\n")


def test_section_tells_objects_warnings_and_controllers(
    api: FakeAPI, kube: Kube
) -> None:
    """What is in the namespace, what went wrong there, and who should have acted."""
    api.put(f"{CORE}/configmaps", named("kube-root-ca.crt"))
    api.put(f"{CORE}/pods", *(named(f"web-{n}") for n in range(5)))
    api.put(
        f"{CORE}/events",
        event(10, "Failed", message="Failed it at 10"),
        event(9, "Killed"),
        event(11, "Started", "Normal"),
        event(12, "Failed", message="Failed it at 12"),
    )
    failing = Controller(name="failing", errors=["first", "second\n  with lines"])
    kube.controllers += [Controller(), failing]

    assert section(kube) == [
        "cluster     envtest cluster, Kubernetes v1.36.3; namespace team",
        "objects     Pod web-0, web-1, web-2 and 2 more",
        "warnings    Killed  Pod/web  Killed it",
        "            Failed  Pod/web  Failed it at 12 (2 times)",
        "controller  mine: running",
        "            | one",
        "            | two",
        "controller  failing: running",
        "            | second",
        "            |   with lines",
    ]


def test_files_hold_everything(api: FakeAPI, kube: Kube, tmp_path: Path) -> None:
    """Objects, events, logs, what the controllers said, and the versions."""
    api.put(f"{CORE}/pods", named("web", spec={"a": 1}))
    api.put(f"{CORE}/events", event(2, "Later"), event(1, "Sooner", "Normal"))
    kube.controllers.append(Controller(errors=["broken"]))
    folder = tmp_path / "artifacts" / "t"
    folder.mkdir(parents=True)
    (folder / "old.txt").write_text("of an earlier run")

    lines = section(kube, folder)

    assert lines[-3:] == [
        "artifacts   artifacts/t",
        "report      artifacts/t/report.html",
        NO_REPLAY,
    ]
    tree = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert tree == [
        "environment.json",
        "events.txt",
        "logs/controller-1.log",
        "logs/etcd.log",
        "logs/kube-apiserver.log",
        "objects.yaml",
        "report.html",
        "summary.md",
        "timeline.jsonl",
    ]
    assert yaml.safe_load((folder / "objects.yaml").read_text("utf-8")) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": named("web")["metadata"],
        "spec": {"a": 1},
    }
    assert (folder / "events.txt").read_text("utf-8").splitlines() == [
        "Normal  Sooner  Pod/web  Sooner it",
        "Warning  Later  Pod/web  Later it",
    ]
    log = (folder / "logs" / "controller-1.log").read_text("utf-8")
    assert log == "one\ntwo\nbroken\n"
    versions = json.loads((folder / "environment.json").read_text("utf-8"))
    assert versions["test"] == "t.py::t"
    assert versions["cluster"] == "envtest cluster, Kubernetes v1.36.3"
    assert versions["incomplete"] == []


def test_values_of_secrets_are_in_no_file_and_no_section(
    api: FakeAPI, kube: Kube, tmp_path: Path
) -> None:
    """Artifacts are uploaded by CI, where others can read them."""
    applied = {"kubectl.kubernetes.io/last-applied-configuration": VALUE}
    inside, outside = named("in", data={"k": VALUE}), named("out", data={"k": VALUE})
    inside["metadata"]["annotations"] = applied
    api.put(f"{CORE}/secrets", inside)
    secrets = api.client.resource("secrets")
    kube.leftovers._made.append((secrets, "other", "out"))
    api.answers["/api/v1/namespaces/other/secrets/out"] = (
        200,
        {"apiVersion": "v1", "kind": "Secret", **outside},
    )

    lines = section(kube, tmp_path / "t")

    files = [path for path in (tmp_path / "t").rglob("*") if path.is_file()]
    written = "\n".join([*lines, *(path.read_text("utf-8") for path in files)])
    assert VALUE not in written
    assert written.count("k: UkVEQUNURUQ=") == 2


def test_section_has_40_lines_at_most(api: FakeAPI, kube: Kube, tmp_path: Path) -> None:
    """The test's own failure stays in sight; the rest is in the files."""
    kube.controllers += [Controller(name=str(n)) for n in range(30)]

    lines = section(kube, tmp_path / "t")

    assert len(lines) == 40
    assert lines[-4:] == [
        "            … 55 lines more in the artifacts",
        "artifacts   artifacts/t",
        "report      artifacts/t/report.html",
        NO_REPLAY,
    ]
    assert section(kube)[-2] == "            … 52 lines left out"


def test_lines_of_the_section_are_cut(api: FakeAPI, kube: Kube) -> None:
    """One event can hold a whole log."""
    api.put(f"{CORE}/events", event(1, "x" * 10_000))

    line = section(kube)[-1]

    assert len(line) == 500
    assert line.endswith("…")


def test_number_of_objects_is_bounded(
    api: FakeAPI, kube: Kube, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A test that made thousands gets the first of them, and is told so."""
    monkeypatch.setattr(evidence_module, "OBJECT_LIMIT", 5)
    limits = []

    def pods(request: Any) -> tuple[int, Any]:
        limits.append(limit := int(request.query["limit"]))
        items = [named(f"web-{n}") for n in range(limit)]
        return 200, {"metadata": {"continue": "token"}, "items": items}

    api.put(f"{CORE}/configmaps", named("a"), named("b"))
    api.answers[f"{CORE}/pods"] = pods

    lines = section(kube, tmp_path / "t")

    assert limits == [3]
    assert "incomplete  only the first 3 of pods" in lines
    assert "            stopped before secrets" in lines
    objects = (tmp_path / "t" / "objects.yaml").read_text("utf-8")
    assert objects.count("kind: ") == 5


def test_time_is_bounded(
    api: FakeAPI, kube: Kube, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An API server that stands still costs a moment, and the logs are there."""
    monkeypatch.setattr(evidence_module, "SOURCE_LIMIT", 0.1)
    goes_on = threading.Event()

    def stands_still(_: Any) -> tuple[int, Any]:
        goes_on.wait(10)
        return 200, {"items": []}

    api.answers[f"{CORE}/configmaps"] = stands_still

    lines = section(kube, tmp_path / "t")
    goes_on.set()

    assert lines[1].startswith("incomplete  ")
    assert "it took more than 0.1 s" in lines[1] or "timed out" in lines[1]
    assert (tmp_path / "t" / "logs" / "etcd.log").read_text().endswith("line 999\n")


def test_time_for_everything_is_bounded(
    kube: Kube, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However many things stand still."""
    monkeypatch.setattr(evidence_module, "TIME_LIMIT", 0.0)

    lines = section(kube, tmp_path / "t")

    assert "incomplete  objects: there was no time left" in lines
    assert "            timeline.jsonl: there was no time left" in lines
    assert list((tmp_path / "t").iterdir()) == []


def test_kind_that_cannot_be_listed_is_named(api: FakeAPI, kube: Kube) -> None:
    """The others are collected all the same."""
    api.answers[f"{CORE}/configmaps"] = status(403, "Forbidden", "not yours\nat all")
    api.put(f"{CORE}/pods", named("web"))

    assert section(kube)[1:] == [
        "objects     Pod web",
        f"incomplete  GET {CORE}/configmaps: 403 Forbidden: not yours",
    ]


def test_api_server_that_is_gone_is_told(
    tmp_path: Path, api: FakeAPI, kube: Kube
) -> None:
    """Logs are what is left to explain it."""
    api.answers["/api"] = (0, None)

    lines = section(kube, tmp_path / "t")

    assert lines[1].startswith(
        f"incomplete  objects: GET {api.url}/api: no answer from the API server: "
    )
    assert (tmp_path / "t" / "logs" / "etcd.log").read_text().endswith("line 999\n")


def test_bug_in_the_diagnostics_is_no_second_failure(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's own failure stays what is reported."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    kube.cluster.client.resources = broken  # type: ignore[method-assign,assignment]
    assert "incomplete  objects: a bug" in section(kube)[1]

    monkeypatch.setattr(evidence_module, "gather", broken)
    assert section(kube) == [
        "diagnostics could not be collected: ZeroDivisionError: a bug"
    ]


class State:
    """What diagnostics need to know of an etcd: one ConfigMap was changed since."""

    def entries(self, revision: int) -> list[Entry]:
        return [Entry("/registry/namespaces/team", OBJECT, revision, 3)]

    def changes(self, after: int) -> list[Change]:
        return [Change(after + 1, "/registry/configmaps/team/a", None, OBJECT)]


OBJECT = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "creationTimestamp": "2026-11-23T13:43:35Z"},
    }
).encode()


@pytest.fixture
def recorded(kube: Kube) -> Kube:
    """A handle on a cluster that remembers."""
    kube.cluster.state = State()  # type: ignore[assignment]
    kube.mark_revision = 5
    return kube


def test_state_is_archived_and_the_command_told(recorded: Kube, tmp_path: Path) -> None:
    """As the one who reads the report can copy it."""
    folder = tmp_path / "a test"

    text = collect(recorded, folder, shown="artifacts/a test", test="t.py::t")

    assert text.endswith("\nreplay      pytest-kube replay 'artifacts/a test'")
    archive = archive_file.read(folder)
    assert [stored.key for stored in archive.baseline] == ["/registry/namespaces/team"]
    assert [stored.revision for stored in archive.changes] == [6]
    assert archive.about.test == "t.py::t"
    assert archive.about.namespace == "team"
    assert (archive.about.first, archive.about.last) == (5, 6)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ClusterError("etcd does not answer\nat all"), "etcd does not answer"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_state_that_cannot_be_read_is_told(
    recorded: Kube, tmp_path: Path, error: Exception, text: str
) -> None:
    """Half of it is not archived."""

    def broken(_: int) -> None:
        raise error

    recorded.cluster.state.entries = broken  # type: ignore[union-attr,method-assign,assignment]

    lines = section(recorded, tmp_path / "t")

    assert lines[-1] == "report      artifacts/t/report.html"
    assert f"incomplete  what has changed: {text}" in lines
    assert not (tmp_path / "t" / archive_file.NAME).exists()


def test_etcd_that_stands_still_is_not_waited_for(
    recorded: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what some tests are about."""
    monkeypatch.setattr(evidence_module, "SOURCE_LIMIT", 0.1)
    goes_on = threading.Event()

    def stuck(_: int) -> list[Entry]:
        goes_on.wait(10)
        return []

    recorded.cluster.state.entries = stuck  # type: ignore[union-attr,method-assign,assignment]

    lines = section(recorded, tmp_path / "t")
    goes_on.set()

    assert any("what has changed: it took more than 0.1 s" in line for line in lines)


def test_disk_that_is_full_costs_what_has_no_room(
    recorded: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other files are there, and no half of one."""

    def full(path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write", full)
    folder = tmp_path / "t"

    lines = section(recorded, folder)

    assert "incomplete  report.html: [Errno 28] No space left on device" in lines
    assert "report " not in lines[-1] + lines[-2]
    assert not (folder / "report.html").exists()
    assert (folder / "timeline.jsonl").exists()
    assert "report.html](" not in (folder / "summary.md").read_text("utf-8")


def test_logs_begin_with_the_test_and_have_an_end(
    kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a log of 100 MB the end; bytes that are no text do no harm."""
    log = kube.cluster.logs["etcd"]
    kube.log_sizes = {"etcd": log.stat().st_size, "kube-apiserver": 100}
    with log.open("ab") as file:
        file.write(b"of this test \xff\x00\n")
    (tmp_path / "missing.log").write_text("began anew\n" + 30 * "x")
    monkeypatch.setattr(evidence_module, "LOG_LIMIT", 35)

    section(kube, tmp_path / "t")

    logs = tmp_path / "t" / "logs"
    assert (logs / "etcd.log").read_text("utf-8") == "of this test \ufffd\0\n"
    assert (logs / "kube-apiserver.log").read_text("utf-8") == (
        "(the first 6 bytes are left out)\nanew\n" + 30 * "x"
    )


def test_nothing_in_the_section_is_a_trap_for_a_terminal(
    api: FakeAPI, kube: Kube
) -> None:
    """What controllers and strangers write is shown, not obeyed."""
    text = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eleft"
    api.put(f"{CORE}/events", event(1, "Failed", message=text))

    line = section(kube)[-1]

    assert line == "warnings    Failed  Pod/web  red  left"


def test_summary_is_what_one_reads_first(
    api: FakeAPI, kube: Kube, tmp_path: Path
) -> None:
    """The section, the failure, and what the other files are."""
    api.put(f"{CORE}/pods", named("web"))
    folder = tmp_path / "t"

    section(kube, folder)

    text = (folder / "summary.md").read_text("utf-8")
    assert text.startswith("# failed: `t.py::t`\n\n```text\ncluster     envtest")
    assert "objects     Pod web" in text
    assert "- [report.html](report.html): timeline, objects" in text
    assert "- [logs](logs): what controllers and components wrote" in text
    assert "audit.jsonl" not in text
    assert text.endswith("## Failure\n\n```text\nE   not so\n```\n")


def test_audit_log_of_the_test_has_no_body_of_a_secret(
    recorded: Kube, tmp_path: Path
) -> None:
    """Not even that of a patch, which does not say what it is about."""

    def patched(body: Any) -> str:
        about = {"resource": "secrets", "namespace": "team", "name": "s"}
        line: dict[str, Any] = json.loads(
            event_line("manager", "patch", objectRef=about)
        )
        return json.dumps({**line, "requestObject": body}) + "\n"

    audit = recorded.cluster.audit = tmp_path / "audit.log"
    operation = [{"op": "add", "path": "/data/k", "value": VALUE}]
    audit.write_text(patched({"data": {"k": VALUE}}) + patched(operation))
    recorded.started = datetime(2026, 1, 1, tzinfo=UTC)

    section(recorded, tmp_path / "t")

    text = (tmp_path / "t" / "audit.jsonl").read_text("utf-8")
    bodies = [json.loads(line)["requestObject"] for line in text.splitlines()]
    assert bodies == [{"data": {"k": "UkVEQUNURUQ="}, "kind": "Secret"}, None]


def test_steps_of_the_test_are_in_the_timeline_and_in_the_archive(
    recorded: Kube, tmp_path: Path
) -> None:
    """What the test did, when, and how it ended."""
    with pytest.raises(ValueError, match="names no object"):
        recorded.get("nonsense")

    section(recorded, tmp_path / "t")

    text = (tmp_path / "t" / "timeline.jsonl").read_text("utf-8")
    (step,) = (e for e in map(json.loads, text.splitlines()) if e["kind"] == "step")
    assert step["who"] == "the test"
    assert step["text"].startswith("1: kube.get('nonsense') (")
    assert "ValueError: 'nonsense' names no object" in step["text"]
    ((moment, done),) = archive_file.read(tmp_path / "t").steps
    assert (moment, done.number, done.text) == (1, 1, "kube.get('nonsense')")


def test_folder_that_cannot_be_written_is_told(kube: Kube, tmp_path: Path) -> None:
    """The section is there nevertheless."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")

    lines = section(kube, blocked / "t")

    assert lines[-1].startswith("artifacts   could not be written: [Errno ")
    assert lines[0].startswith("cluster     envtest")


def test_section_tells_the_last_changes_and_what_was_refused_again_and_again(
    recorded: Kube, tmp_path: Path
) -> None:
    """Names that are made up do not make a refusal another one."""

    def refused(name: str) -> str:
        return event_line(
            "manager",
            "create",
            code=403,
            status={"message": f'pods "{name}" is forbidden: exceeded quota'},
            objectRef={"resource": "pods", "namespace": "team"},
        )

    audit = tmp_path / "audit.log"
    audit.write_text(refused("web-1") + refused("web-2"))
    recorded.cluster.audit = audit
    recorded.started = datetime(2026, 1, 1, tzinfo=UTC)

    lines = section(recorded)

    (line,) = (line for line in lines if line.startswith("changes"))
    assert line.endswith(
        'create pods team: 403 pods "web-2" is forbidden: exceeded quota (manager) '
        "2 times"
    )
