"""What kopf's handlers came to: read from the log of a real kopf, on a real cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Project

HANDLERS = """\
import kopf

@kopf.on.startup()
def begins(retry, **_):
    if not retry:
        raise kopf.TemporaryError("not yet", delay=0.01)

@kopf.on.cleanup()
def ends(**_): pass

@kopf.on.create("widgets")
def succeeds(**_): pass

@kopf.on.create("widgets")
async def temporary(retry, **_):
    if not retry:
        raise kopf.TemporaryError("come back", delay=0.01)

@kopf.on.create("widgets", backoff=0.01)
def arbitrary(retry, **_):
    if not retry:
        raise KeyError("flavour")

@kopf.on.create("widgets")
def permanent(**_):
    raise kopf.PermanentError("hopeless")

@kopf.on.create("widgets", errors=kopf.ErrorsMode.PERMANENT)
def strict(**_):
    raise KeyError("flavour")

@kopf.on.create("widgets", errors=kopf.ErrorsMode.IGNORED)
def ignored(**_):
    raise KeyError("flavour")

@kopf.on.create("widgets", retries=1)
def last_retry(**_):
    raise kopf.TemporaryError("come back")

@kopf.on.create("widgets", retries=1)
def last_try(**_):
    raise KeyError("flavour")

@kopf.on.create("widgets", timeout=1)
def too_late_to_retry(**_):
    raise kopf.TemporaryError("come back", delay=2)

@kopf.on.create("widgets", timeout=1, backoff=2)
def too_late_to_try(**_):
    raise KeyError("flavour")

@kopf.on.create("widgets", retries=0)
def never_tried(**_): pass

@kopf.on.create("widgets", timeout=0)
def timed_out(**_): pass

@kopf.on.update("widgets", field="spec.size")
def resized(**_): pass

@kopf.on.delete("widgets")
def deleted(**_): pass

@kopf.on.event("widgets")
def noticed(**_): pass

@kopf.timer("widgets", interval=60)
def ticks(**_):
    raise kopf.PermanentError("no time")

@kopf.daemon("widgets")
async def watches(**_): pass

@kopf.index("widgets")
def listed(**_):
    raise kopf.PermanentError("no place")

@kopf.on.create("namespaces", labels={"mine": "yes"})
def cluster_wide(**_): pass
"""
EXPECTED = """\
EXPECTED = {
    "begins": ["retry", "success"],
    "succeeds": ["success"],
    "temporary": ["retry", "success"],
    "arbitrary": ["retry", "success"],
    "permanent": ["error"],
    "strict": ["error"],
    "ignored": ["error"],
    "last_retry": ["error"],
    "last_try": ["error"],
    "too_late_to_retry": ["error"],
    "too_late_to_try": ["error"],
    "never_tried": ["error"],
    "timed_out": ["error"],
    "resized/spec.size": ["success"],
    "deleted": ["success"],
    "ticks": ["error"],
    "watches": ["success"],
    "cluster_wide": ["success"],
    "ends": ["success"],
}
"""
WIDGET = """\
def widget(name, size=3):
    return {"apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": name}, "spec": {"size": size}}
"""
ALL_OUTCOMES = f"""\
from collections import Counter
from datetime import UTC, datetime

{WIDGET}
{EXPECTED}
def results(controller):
    found = {{}}
    for outcome in controller.outcomes:
        found.setdefault(outcome.handler, []).append(outcome.result)
    return found

def test_outcomes(kube, kube_controller):
    began = datetime.now(UTC)
    kube.apply({{"apiVersion": "v1", "kind": "Namespace",
                "metadata": {{"name": "mine", "labels": {{"mine": "yes"}}}}}})
    kube.apply(widget("w1"))
    created = [name for name in EXPECTED if name not in
               ("resized/spec.size", "deleted", "ends")]
    kube.eventually(lambda: results(kube_controller).keys() >= set(created))
    kube.wait_for("widget/w1", lambda w: "last-handled" in str(w["metadata"]))
    kube.apply(widget("w1", 4))
    kube.eventually(lambda: "resized/spec.size" in results(kube_controller))
    kube.delete("widget/w1")
    kube_controller.stop()

    found = results(kube_controller)
    assert found.pop("noticed")[0] == "success"
    assert set(found.pop("listed")) == {{"error"}}
    assert found == EXPECTED
    about = {{o.handler: o.about for o in kube_controller.outcomes}}
    assert {{about.pop(name) for name in ("begins", "ends")}} == {{""}}
    assert about.pop("cluster_wide") == "Namespace mine"
    assert set(about.values()) == {{f"Widget {{kube.namespace}}/w1"}}
    one = next(o for o in kube_controller.outcomes if o.handler == "succeeds")
    assert began < one.time < datetime.now(UTC)
    assert {{o.text for o in kube_controller.outcomes if o.result == "success"}} == {{""}}
    expected = Counter(o.result for o in kube_controller.outcomes)
    assert kube_controller.reconciles() == expected

def test_texts(kube, kube_controller):
    kube.apply(widget("w1"))
    names = {{"temporary", "arbitrary", "permanent"}}
    kube.eventually(lambda: results(kube_controller).keys() >= names)
    text = {{o.handler: o.text for o in kube_controller.outcomes if o.text}}
    for name, error in [("temporary", "TemporaryError: come back"),
                        ("arbitrary", "KeyError: 'flavour'"),
                        ("permanent", "PermanentError: hopeless")]:
        first, *_, last = text[name].splitlines()
        assert first.startswith(f"Handler '{{name}}' failed ")
        assert last.endswith(error)
        assert f"in {{name}}\\n" in text[name]
"""


def test_outcomes_of_all_kinds_of_handlers(project: Project) -> None:
    """Whichever way kopf words it, and whichever logger it is on."""
    project.write("src/widget_operator.py", HANDLERS)
    project.test(ALL_OUTCOMES)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=2)


QUIET = f"""\
import logging
import kopf
import pytest

{WIDGET}
NAMES = [f"kopf.activities.{{each}}" for each in
         ("startup", "cleanup", "authentication", "probe")]
NAMES += ["", "kopf", "kopf.objects", "kopf._core.reactor.running"]

def state():
    logs = [logging.getLogger(name) for name in NAMES]
    return kopf.get_default_registry(), [
        (log.name, log.level, log.filters[:], [h for h in log.handlers
         if not type(h).__module__.startswith("_pytest")]) for log in logs]

@pytest.fixture(autouse=True)
def nothing_is_left():
    before = state()
    yield
    assert state() == before

@pytest.mark.parametrize("name", [None, "kopf", "kopf.objects"])
def test_quiet(kube, run_controller, monkeypatch, caplog, name):
    if name:
        caplog.set_level(logging.WARNING, name)
    first = run_controller("kopf:src/widget_operator.py")
    second = run_controller("kopf:src/widget_operator.py")
    kube.apply(widget("w1"))
    kube.eventually(lambda: first.outcomes and second.outcomes)
    first.stop()
    before = len(second.outcomes)
    kube.apply(widget("w2"))
    kube.eventually(lambda: len(second.outcomes) > before)
    second.stop()
    assert {{o.result for o in second.outcomes}} == {{"success"}}
    assert ("succeeded" in second.output) == (name is None)
    assert ("succeeded" in caplog.text) == (name is None)
"""


def test_success_is_seen_in_a_log_that_does_not_show_it(project: Project) -> None:
    """The user's level stays; afterwards all is as it was, whoever ends first."""
    project.test(QUIET)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=3)


NOISY = """\
import asyncio
import threading
import kopf

def mine(name, **_):
    return name == "NAME"

@kopf.on.create("widgets", when=mine)
async def prepare_NAME(logger, **_):
    logger.error("NAME told in the loop")

@kopf.on.create("widgets", when=mine)
def finish_NAME(logger, **_):
    logger.error("NAME told in a thread")
    thread = threading.Thread(target=logger.error, args=["NAME told by a thread of its own"])
    thread.start()
    thread.join()
    raise kopf.PermanentError("NAME is broken")
"""
APART = f"""\
{WIDGET}
def finished(controller):
    return any("finish" in o.handler for o in controller.outcomes)

def test_apart(kube, run_controller):
    red = run_controller("kopf:src/red.py")
    blue = run_controller("kopf:src/blue.py")
    for name in ["red", "blue"]:  # on one object they would get in each other's way
        kube.apply(widget(name))
    kube.eventually(lambda: finished(red) and finished(blue))
    for own, its, other in [("red", red, "blue"), ("blue", blue, "red")]:
        its.stop()
        assert [o.handler for o in its.outcomes] == [
            f"prepare_{{own}}", f"finish_{{own}}"]
        errors = "\\n".join(its.errors)
        for text in ["told in the loop", "told in a thread", "told by a", "is broken"]:
            assert f"{{own}} {{text}}" in errors
            assert f"{{own}} {{text}}" in its.output
        assert other not in errors + its.output
"""


def test_operators_are_told_apart(project: Project) -> None:
    """All log to the same loggers, in their loops and in threads."""
    for name in ("red", "blue"):
        project.write(f"src/{name}.py", NOISY.replace("NAME", name))
    project.test(APART)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


REGISTRY = """\
import kopf

registry = kopf.OperatorRegistry()

@kopf.on.create("widgets", registry=registry)
def reconcile(spec, patch, **_):
    patch.status["size"] = spec["size"]
"""
BY_REGISTRY = f"""\
import kopf
import pytest

{WIDGET}
@pytest.mark.kube(controller="some_operator:registry")
def test_string(kube, kube_controller):
    kube.apply(widget("w1"))
    kube.wait_for("widget/w1", "jsonpath={{.status.size}}=3")
    assert kube_controller.name == "kopf:some_operator:registry"

def test_object(kube, run_controller):
    from some_operator import registry
    default = kopf.get_default_registry()
    controller = run_controller(registry)
    kube.apply(widget("w1"))
    kube.wait_for("widget/w1", "jsonpath={{.status.size}}=3")
    controller.restart()
    kube.apply(widget("w2"))
    kube.wait_for("widget/w2", "jsonpath={{.status.size}}=3")
    assert controller.name == "kopf:registry"
    assert controller.reconciles()["success"] == 2
    assert kopf.get_default_registry() is default
"""


def test_registry_is_run(project: Project) -> None:
    """The object itself, or where it is to be imported from; also once more."""
    project.write("src/some_operator.py", REGISTRY)
    project.ini('kube_crds = ["crds"]', 'pythonpath = ["src"]')
    project.test(BY_REGISTRY)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=2)


NOBODY_TELLS = """\
def plain(stop):
    stop.wait()
def test_it(run_controller):
    controller = run_controller(plain)
    assert controller.outcomes == []
    controller.reconciles()
"""


def test_reconciles_of_a_function_are_known_to_nobody(project: Project) -> None:
    """The error says who tells, and how it is made to."""
    project.test(NOBODY_TELLS)

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *ControllerError: controller plain: nobody tells how its reconciles "
            "ended. kopf does for its handlers. A program that is built on "
            "controller-runtime tells by its metrics: give it "
            "--metrics-bind-address=127.0.0.1:{port:metrics}, in projects of Kubebuilder "
            "also --metrics-secure=false"
        ]
    )
