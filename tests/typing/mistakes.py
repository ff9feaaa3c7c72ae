"""What must not type-check: each mistake is one that both checkers have to see.

Never run. An ignore that nothing needs is an error of its own, of mypy and of pyright:
a mistake that they begin to accept is noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kube import Object, condition, field, phase, ready

if TYPE_CHECKING:
    from pytest_kube import Kube, WaitTimeoutError


def verbs(kube: Kube, one: Object) -> None:
    """Objects are mappings, refs are texts or objects, options have names."""
    kube.apply(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    kube.apply(one, True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    kube.create("pod/web")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.get(Object)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.get("pod", "web")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(kube.find("pod/web").name)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # noqa: T201
    kube.list("pods", labels=["app=web"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.list("pods", label="app=web")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    kube.update("pod/web")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    kube.update(one, {"data": {}})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    kube.patch(one, "data")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.scale("deployment/web", "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.delete("pod/web", timeout="3s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.create(kube.delete("pod/web"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.expect_rejected("pod/web")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.as_user("jane", ["viewers"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.exec("pod/web", ["ls", "-l"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def waits(kube: Kube, one: Object) -> None:
    """Conditions are ours, texts, or callables; times are numbers."""
    kube.wait_for(one, True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.wait_for(one, {"status": {}})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.wait_for(one)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    kube.wait_for(one, ready, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    kube.wait_for(one, ready, timeout="3s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.wait_for_all(one, ready)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.wait_for_all("pods", ready, count=ready)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.consistently(one, ready)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    kube.eventually(ready)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kube.settle(0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with kube.port_forward("pod/web", "http"):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pass


def conditions() -> None:
    """Conditions combine with what is one."""
    phase("Running") & 3  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    -ready  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]  # noqa: B018
    ready("pod/web")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    condition(ready)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    condition("Ready", True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    phase(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    field(["spec", "size"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def results(kube: Kube, error: WaitTimeoutError) -> None:
    """What is returned is what it says."""
    name: int = kube.get("pod/web").name  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    one: Object = kube.apply("pod.yaml")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    text: str = kube.history()[0].user  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    error.last["spec"]  # type: ignore[index]  # pyright: ignore[reportOptionalSubscript]
    kube.history().never()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(name, one, text)  # noqa: T201


def names() -> None:
    """What is not ours cannot be imported."""
    from pytest_kube import nothing  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]

    print(nothing)  # noqa: T201  # pyright: ignore[reportUnknownArgumentType]
