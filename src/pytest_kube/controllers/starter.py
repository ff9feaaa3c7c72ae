"""The controllers of one test: started as somebody, stopped, asked what they lacked."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from textwrap import indent
from typing import TYPE_CHECKING, Any, Self

from pytest_kube import rbac
from pytest_kube.controllers import hygiene, runner, specs
from pytest_kube.controllers.access import Access
from pytest_kube.controllers.traces import Process
from pytest_kube.errors import (
    ControllerError,
    KubeError,
    KubeWarning,
    NotFoundError,
    SettingsError,
    hide_frames,
)
from pytest_kube.kubeconfig import credential, new_path
from pytest_kube.requests_log import requests
from pytest_kube.steps import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from pytest_kube.controllers.runner import Controller, Work
    from pytest_kube.kube import Kube
    from pytest_kube.settings import Settings
    from pytest_kube.system.gates import Gates

__tracebackhide__ = hide_frames

MASTERS = ("system:masters",)


@dataclass
class Starter:
    """Starts controllers; use it as a context manager, which stops them all.

    Attributes:
        kube: The handle of the test.
        settings: What the run was asked for.
        folder: Where relative paths in a specification start.
        wide: Whether controllers look after all namespaces.
        service_account: As which they run, instead of that of the settings.
        identities: The kubeconfigs of users that were made before.
        gates: Opens the ways by which controllers reach the API server.
    """

    kube: Kube
    settings: Settings
    folder: Path
    wide: bool
    service_account: str | None
    identities: dict[str, Path]
    gates: Gates
    _process: Process = field(default_factory=Process)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)

    def start(
        self,
        spec: str | Sequence[str] | Callable[..., Any],
        *,
        service_account: str | None = None,
        **options: Any,
    ) -> Controller:
        """Start a controller, and return it when it is ready.

        Args:
            spec: What to run; see `specs.load`.
            service_account: ``NAMESPACE/NAME`` of the one that it runs as; empty for a
                user who may do everything.
            options: For what is run.

        Raises:
            ControllerError: It cannot be run.
        """
        accounts = (
            service_account,
            self.service_account,
            self.settings.service_account,
        )
        account = next(account for account in accounts if account is not None)
        self.kube.cluster.client.refuse_write("a controller writes")
        return self.kube.steps.take(
            lambda: self._start(spec, account, options),
            lambda: call("run_controller", (spec,), options),
        )

    def _start(
        self,
        spec: str | Sequence[str] | Callable[..., Any],
        account: str,
        options: dict[str, Any],
    ) -> Controller:
        user, identity = self._identity(account)
        guardian = self.kube.cluster.guardian
        access = None
        if specs.runs_here(spec):
            path = new_path(guardian.directory, user)
            access = Access(identity, path, self.gates)
            self._stack.callback(access.shut)
        surroundings = runner.Surroundings(
            user=user,
            kubeconfig=access.kubeconfig if access else identity,
            namespace=self.kube.namespace,
            guardian=guardian,
            folder=self.folder,
            wide=self.wide,
            audit=self.kube.cluster.audit,
            access=access,
            credential=credential(identity),
            steps=self.kube.steps,
        )

        def load() -> Work:
            if access is not None:
                access.open()
            return specs.load(spec, surroundings, **options)

        found: list[str] = []
        checks = self._stack.enter_context(contextlib.ExitStack())
        with self._process.importing(found.append):
            work = load()
        running = runner.running(
            work, surroundings, timeout=self.settings.timeout, again=load
        )
        began = datetime.now(UTC)
        try:
            controller = self._stack.enter_context(running)
        except ControllerError as e:
            if surroundings.audit is not None:
                asked = requests(
                    surroundings.audit, began, {user}, surroundings.credential
                )
                e.args = ("\n  It ".join([str(e), *hygiene.lacking(asked)]),)
            raise e.with_traceback(None) from e.__cause__
        checks.callback(self._check, controller, found)  # after it was stopped
        self.kube.controllers.append(controller)
        return controller

    def _identity(self, account: str) -> tuple[str, Path]:
        """Return as whom a controller runs, and the kubeconfig for that."""
        if not account:
            name = f"controller-{len(self.kube.controllers) + 1}"
            if name not in self.identities:
                self.identities[name] = self.kube.cluster.identity(name, MASTERS)
            return name, self.identities[name]
        namespace, slash, name = account.partition("/")
        if not (namespace and slash and name) or "/" in name:
            raise SettingsError(
                f"service account {account!r}: write NAMESPACE/NAME, as in its manifest"
            )
        try:
            handle = self.kube.as_service_account(name, namespace=namespace)
        except NotFoundError:
            raise ControllerError(
                f"there is no ServiceAccount {account} for the controller to run as; "
                "its manifest, and that of its namespace, belong into kube_manifests"
            ) from None
        return f"{rbac.SERVICE_ACCOUNT}:{namespace}:{name}", handle.kubeconfig

    def _check(self, controller: Controller, found: list[str]) -> None:
        """Tell what a controller did that no test asks about, now that it ended."""
        found += [*controller.findings(), *self._process.left_threads(controller)]
        found += self._asked_and_left(controller)
        if errors := controller.unread_errors():
            many = "s" if len(errors) > 1 else ""
            found.append(
                f"had {len(errors)} handler error{many} that the test did not look at; "
                "last:"
                f"\n{indent(errors[-1].rstrip(), '    ')}"
            )
        if not found:
            return
        who = f"controller {controller.name} ({controller.user})"
        texts = [f"{who} {text}" for text in found]
        if self.settings.strict:
            raise ControllerError("\n".join(texts))
        for text in texts:
            warnings.warn(text, KubeWarning, stacklevel=1)

    def _asked_and_left(self, controller: Controller) -> Iterator[str]:
        """Look at what it has asked for, and at what it has left behind."""
        cluster, user = self.kube.cluster, controller.user
        if cluster.audit is None:
            return
        asked = requests(cluster.audit, controller.began)[::-1]
        yield from hygiene.findings(asked, user, controller.credential)
        if hygiene.may_leave_orphans(asked, user):
            # A test may have broken the cluster on purpose.
            with contextlib.suppress(KubeError):
                custom = {crd["spec"]["group"] for crd in self.kube.list("crds")}
                yield from hygiene.orphans(self.kube.history(), user, custom)
