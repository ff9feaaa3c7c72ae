"""What components remember that a rollback makes untrue.

Most of what they know they learn by watching, which tells them of a rollback as of any
other change. The rest is listed here: who remembers it has to be started again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kube.state.etcd import Change, Entry


def contradicted(
    restored: Sequence[Change], entries: Callable[[str], list[Entry]]
) -> set[str]:
    """Name the components whose memory does not fit to objects that are back.

    Args:
        restored: Those objects, as they are and as they are to be.
        entries: Returns what is stored, by the start of keys.
    """
    names = set()
    for change in restored:
        if change.key.startswith("/registry/endpointslices/"):
            # The controller refuses slices whose generation it has seen higher.
            names.add("kube-controller-manager")
        if change.key.startswith("/registry/pods/") and change.before is not None:
            nodes = (_at(v, "spec", "nodeName") for v in (change.before, change.after))
            if len(set(nodes)) > 1:
                # The scheduler ends itself when a pod is on another node than it was.
                names.add("kube-scheduler")
    back = {_at(c.after, "metadata", "uid") for c in restored if c.before is None}
    owners = {
        owner["uid"]
        for entry in (entries("/registry/") if back else ())
        if b'"ownerReferences"' in entry.value
        for owner in _at(entry.value, "metadata", "ownerReferences") or ()
    }
    if back & owners:
        # Its garbage collector holds an owner that it saw vanish for absent for ever,
        # and would delete what it owns.
        names.add("kube-controller-manager")
    return names


def _at(value: bytes | None, *names: str) -> Any:
    found = json.loads(value or b"{}")
    for name in names:
        found = found.get(name) or {}
    return found or None
