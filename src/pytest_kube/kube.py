"""The user's handle on a cluster: verbs, waits and history, bound to a namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_kube import kubeconfig, rbac
from pytest_kube.client import Client
from pytest_kube.errors import APIError, ClusterError, NotRejectedError, hide_frames
from pytest_kube.history import History, Selection, read
from pytest_kube.objects import Object
from pytest_kube.observation import Target
from pytest_kube.pods import Pods
from pytest_kube.requests_log import requests
from pytest_kube.steps import step

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kube.rbac import RBACReport
    from pytest_kube.verbs import Ref

__tracebackhide__ = hide_frames

_REJECTIONS = {400, 403, 413, 422}
"""What the API server answers when it does not like an object."""


@dataclass(repr=False)
class Kube(Pods):
    """A handle on a cluster, bound to a namespace.

    A *ref* names an object as kubectl does: ``"deployment/web"``, ``"po/web-0"``,
    ``"memcacheds.cache.example.com/sample"``; or it is the object itself.

    Attributes:
        cluster: The cluster.
        namespace: Where namespaced objects are, unless an object says otherwise.
        timeout: Seconds that a wait takes at most by default.
        folder: Where relative paths start: in tests, the folder of the ini file.
        controllers: The controllers under test; when one ends, waits fail at once.
        mark_revision: The revision at which the test began, where its history starts;
            ``None`` for everything that is known.
        deadline: By when every wait has to end, on the clock of ``time.monotonic``;
            ``None`` for no such limit. Just before pytest-timeout ends the test.
    """

    def __repr__(self) -> str:
        return f"<Kube namespace={self.namespace!r} on {self.cluster.name}>"

    # --- as somebody else -----------------------------------------------------

    def as_user(self, name: str, *groups: str) -> Kube:
        """Return this handle as another user sees the cluster.

        Args:
            name: The user; it need not be known to anybody.
            groups: The groups that it belongs to.

        Example:
            >>> with pytest.raises(APIError, match="cannot list resource"):
            ...     kube.as_user("jane", "viewers").list("secrets")
        """
        if not name:
            raise ValueError(
                "as_user('') names nobody: the requests would be the administrator's"
            )
        target = kubeconfig.new_path(self.cluster.guardian.directory, name)
        return self._as(kubeconfig.impersonating(self.kubeconfig, name, groups, target))

    def as_service_account(self, name: str, *, namespace: str | None = None) -> Kube:
        """Return this handle as a ServiceAccount, by a token that lasts an hour.

        Args:
            name: The ServiceAccount.
            namespace: Another namespace than the handle's.

        Raises:
            NotFoundError: There is no such ServiceAccount.
        """
        where = namespace or self.namespace
        token = self.create(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "metadata": {"name": name, "namespace": where},
                "spec": {"expirationSeconds": 3600},
            }
        )["status"]["token"]
        target = kubeconfig.new_path(self.cluster.guardian.directory, f"{where}-{name}")
        return self._as(kubeconfig.with_token(self.kubeconfig, token, target))

    def _as(self, path: Path) -> Kube:
        client = Client.from_kubeconfig(path, read_only=self._client.read_only)
        cluster = replace(self.cluster, client=client)
        other = replace(self, cluster=cluster)
        other.leftovers, other.steps = self.leftovers, self.steps
        return other

    # --- what has to be refused -----------------------------------------------

    @step
    def expect_rejected(self, obj: Mapping[str, Any], *, match: str = "") -> Object:
        """Try to write an object that the API server has to reject, and return why.

        For the rules of a CRD, its CEL expressions, admission policies and webhooks.
        An object that was read (it has a resourceVersion) is updated, so that rules
        about ``oldSelf`` apply; any other is created.

        Args:
            obj: The object.
            match: A regular expression, searched for in the message and its causes.

        Returns:
            The API server's ``Status``; its ``details.causes`` name the fields.

        Raises:
            NotRejectedError: The object was accepted, or rejected for another reason.
            APIError: It failed for a reason that is no judgement on the object.

        Example:
            >>> status = kube.expect_rejected(wrong, match="must be positive")
            >>> assert status["details"]["causes"][0]["field"] == "spec.size"
        """
        what = f"{obj.get('kind')} {(obj.get('metadata') or {}).get('name')}"
        try:
            known = (obj.get("metadata") or {}).get("resourceVersion")
            answer = self.update(obj) if known else self.create(obj)
        except APIError as e:
            if e.status not in _REJECTIONS:
                raise
            causes = (e.details.get("details") or {}).get("causes") or ()
            if not match and "strict decoding error" in str(e):
                raise NotRejectedError(
                    f"{what} was not even judged, for it has a field that its kind "
                    f"does not have; where that is what is tested, use match:\n  {e}",
                    answer=e.details,
                ) from None
            texts = [str(e), *(str(cause.get("message")) for cause in causes)]
            if not any(re.search(match, text) for text in texts):
                lines = [
                    f"    {cause.get('field')}: {cause.get('message')}"
                    for cause in causes
                ]
                raise NotRejectedError(
                    f"{what} was rejected, but not for {match!r}:\n  "
                    + "\n".join([str(e), *lines]),
                    answer=e.details,
                ) from None
            return Object(e.details)
        wanted = f" for {match!r}" if match else ""
        raise NotRejectedError(
            f"{what} was to be rejected{wanted}, and was accepted "
            f"({'updated' if known else 'created'}): does the CRD that is installed "
            "have the rule? A policy takes a moment until it is in force",
            answer=answer,
        )

    # --- who may do what ------------------------------------------------------

    def rbac_report(self, user: str | None = None) -> RBACReport:
        """Compare what was asked of the API server with what the roles grant.

        Args:
            user: Whose requests; those of the controller under test when omitted.

        Returns:
            Rules that are missing and rules that nobody used, in this test; as text
            they are YAML that fits into a role.

        Raises:
            ClusterError: The cluster has no audit log.
            ValueError: No controller was started, or several.
        """
        audit = self.cluster.audit
        if audit is None:
            raise ClusterError(
                f"{self.cluster.name}: rbac_report needs the API server's audit log; "
                "clusters of kwok, envtest and kind have it"
            )
        users = sorted({c.user for c in self.controllers}) if user is None else [user]
        if len(users) != 1:
            raise ValueError(
                f"rbac_report: {len(users)} controllers were started; name the user"
                f"{': ' if users else ''}{', '.join(users)}"
            )
        asked = requests(audit, self.started, users)
        return rbac.report(self.cluster.client, users[0], asked)

    # --- history ------------------------------------------------------------

    def history(self, ref: Ref | None = None) -> History:
        """Return every change since the test began, exactly once, in order.

        Nothing is recorded while the test runs: etcd and the API server's audit log
        have it all, also what lasted but a millisecond. Objects are as they are
        stored, in the version that the API server stores their kind in.

        Args:
            ref: An object, as everywhere; or just a kind, for all objects of that
                kind in all namespaces; or nothing, for everything.

        Raises:
            ClusterError: The cluster's etcd is out of reach, or does not know any
                more what happened when the test began.

        Example:
            >>> kube.history("deployment/web").never(lambda d: d is None)
            >>> for version in kube.history("pods"):
            ...     print(version.time, version.ref, version.verb, version.user)
        """
        return read(self.cluster, self.mark_revision or 0, self._selection(ref))

    def _selection(self, ref: Ref | None) -> Selection:
        if ref is None:
            return Selection()
        if isinstance(ref, str) and "/" not in ref:
            resource = self._client.resource(ref)
            text = f"{resource.plural} of all namespaces"
            return Selection(text, resource.group, resource.kind)
        resource, name, where = self._resolve(ref)
        return Selection(
            str(Target(resource, where, name)),
            resource.group,
            resource.kind,
            where or None,
            name,
        )
