"""What a run has made on a cluster that outlives it: removed at its end, or listed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kube.errors import KubeError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kube.client import Client
    from pytest_kube.discovery import Resource

RUN, MADE_AT = "pytest-kube/run", "pytest-kube/made-at"
"""Labels of what a run makes: which run, and when it began (UTC)."""

TIMEOUT = 30.0
"""Seconds in which the last namespaces have to be gone, before they are listed."""

_PAUSE = 0.1


class Made(NamedTuple):
    """An object that has to be removed.

    Attributes:
        path: Its URL path.
        ref: What kubectl calls it.
        namespace: Where it is; empty for a cluster-scoped one.
    """

    path: str
    ref: str
    namespace: str

    @classmethod
    def of(cls, resource: Resource, namespace: str, name: str) -> Made:
        """Return what is known of an object before it is made."""
        where = namespace if resource.namespaced else ""
        path = resource.path(where, name)
        return cls(path, f"{resource.full_name}/{name}", where)


@dataclass
class Belongings:
    """What a run has on a cluster of somebody else's.

    Attributes:
        client: Requests to the cluster.
        labels: What namespaces, and whatever is installed, carry, so that a run that
            was killed leaves nothing unknown.
        replace_crds: Whether CRDs that are there with other content are replaced.
        notes: What people should know of the cluster.
        left: What could not be removed, in words of kubectl, and why.
    """

    client: Client
    labels: Mapping[str, str]
    replace_crds: bool = False
    notes: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    _installed: list[Made] = field(default_factory=list)
    _going: list[Made] = field(default_factory=list)
    _replaced: list[dict[str, Any]] = field(default_factory=list)

    def has_made(self, obj: Mapping[str, Any]) -> bool:
        """Say whether an object is of this run: perhaps by another worker."""
        run = (obj["metadata"].get("labels") or {}).get(RUN)
        return bool(run == self.labels[RUN])

    def note(self, made: Made) -> None:
        """Note what has to be removed at the end of the run."""
        if made not in self._installed:
            self._installed.append(made)

    def note_going(self, made: Made) -> None:
        """Note what has to be gone at the end of the run, deleted by then."""
        if made not in self._going:
            self._going.append(made)

    def note_replaced(self, path: str, before: Mapping[str, Any]) -> None:
        """Note what has to be put back at the end of the run."""
        self._replaced.append({"path": path, "before": before})

    def not_removed(self, made: Made, error: KubeError) -> None:
        """Note what somebody has to remove by hand."""
        self.left[_deletion(made)] = str(error).partition("\n")[0]

    def handed_over(self) -> dict[str, Any]:
        """Return it all, as JSON data, for another process to remove."""
        data = {
            "left": {**self.left},
            "going": [list(made) for made in self._going],
            "installed": [list(made) for made in self._installed],
            "replaced": [*self._replaced],
        }
        for each in (self.left, self._going, self._installed, self._replaced):
            each.clear()
        return data

    def take_over(self, data: Mapping[str, Any]) -> None:
        """Take what another process has handed over."""
        self.left.update(data["left"])
        self._going += [Made(*made) for made in data["going"]]
        for made in data["installed"]:
            self.note(Made(*made))
        known = {each["path"] for each in self._replaced}
        self._replaced += [r for r in data["replaced"] if r["path"] not in known]

    def remove(self) -> None:
        """Remove what was installed, last things first; wait until all is gone.

        Nothing is raised: what stays is in ``left``.
        """
        for made in reversed(self._installed):
            try:
                self.client.request("DELETE", made.path)
            except NotFoundError:
                pass
            except KubeError as e:
                self.not_removed(made, e)
        for each in reversed(self._replaced):
            self._put_back(each["path"], each["before"])
        self._installed.clear()
        self._replaced.clear()
        deadline = time.monotonic() + TIMEOUT
        for made in self._going:
            if _deletion(made) not in self.left:
                self._await_gone(made, deadline)
        self._going.clear()

    def _put_back(self, path: str, before: Mapping[str, Any]) -> None:
        try:
            there = self.client.request("GET", path)
            self.client.request("PUT", path, body={**there, "spec": before["spec"]})
        except KubeError as e:
            name = path.rpartition("/")[2]
            self.left[f"edit crd/{name}"] = f"it was replaced, and not put back: {e}"

    def _await_gone(self, made: Made, deadline: float) -> None:
        while True:
            try:
                obj = self.client.request("GET", made.path)
            except NotFoundError:
                return
            except KubeError as e:
                self.not_removed(made, e)
                return
            if time.monotonic() >= deadline:
                what = "; ".join(_reasons(obj))
                text = f"still there after {TIMEOUT:.0f} s{what and f': {what}'}"
                self.not_removed(made, KubeError(text))
                return
            time.sleep(_PAUSE)

    def lines(self, kubectl: str) -> Iterable[str]:
        """Return what has to be done by hand, one line each."""
        return [f"  {kubectl} {words}   # {why}" for words, why in self.left.items()]


def _deletion(made: Made) -> str:
    where = f" --namespace={made.namespace}" if made.namespace else ""
    return f"delete {made.ref}{where}"


def _reasons(obj: Mapping[str, Any]) -> list[str]:
    """Return why an object that was deleted, or a namespace, is still there."""
    finalizers = obj["metadata"].get("finalizers")
    found = [f"finalizers {', '.join(finalizers)}"] if finalizers else []
    conditions = (obj.get("status") or {}).get("conditions") or ()
    if obj["metadata"].get("deletionTimestamp"):
        found += [
            str(condition["message"])
            for condition in conditions
            if condition["status"] == "True" and condition.get("message")
        ]
    return found
