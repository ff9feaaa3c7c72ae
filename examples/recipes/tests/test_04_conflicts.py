"""Conflicts

**What.** Two who write to the same object do not undo each other's work: by optimistic
locking where an object is replaced, by field ownership where it is applied.

**Why it is hard.** Both need a second writer at the right moment. In a test that leaves
it to chance, the conflict comes once in a thousand runs, and then as a surprise.

**How.** Read, let somebody else write, then write what was read. `update` with a
function is the loop that a controller needs: it reads, changes and writes, again if
somebody was faster. For a second applier take a client with a field manager of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kube import ConflictError, Kube, Object


def test_who_comes_late_is_told(kube: Kube, website: Object) -> None:
    """An object that was changed since it was read is not overwritten."""
    read = kube.create(website)
    kube.patch(website, {"spec": {"text": "Faster!"}})

    read["spec"]["text"] = "Late!"
    with pytest.raises(ConflictError, match="it was changed meanwhile"):
        kube.update(read)

    assert kube.get(website)["spec"]["text"] == "Faster!"


def test_nothing_is_lost_by_reading_again(kube: Kube, website: Object) -> None:
    """The change is made to the object as somebody else left it."""
    kube.create(website)
    rivals = iter([{"spec": {"text": "Faster!"}}])

    def grow(read: Object) -> None:
        for patch in rivals:  # the first time, somebody writes in between
            kube.patch(website, patch)
        read["spec"]["megabytes"] += 1

    updated = kube.update(website, grow)

    assert updated["spec"]["text"] == "Faster!"
    assert updated["spec"]["megabytes"] == 2


def test_fields_have_owners(kube: Kube, kube_client: Any, website: Object) -> None:
    """Who applies another value for the field of somebody else is refused."""
    kube.apply(website)
    api = kube_client.resources.get(api_version="example.com/v1", kind="Website")
    bigger = {**website, "spec": {**website["spec"], "megabytes": 5}}
    api.server_side_apply(bigger, namespace=kube.namespace, field_manager="autoscaler")

    kube.apply(website)  # says nothing of the size, so that it stays
    assert kube.get(website)["spec"]["megabytes"] == 5

    website["spec"]["megabytes"] = 7
    with pytest.raises(ConflictError, match=r"\.spec\.megabytes belongs to autoscaler"):
        kube.apply(website)
    assert kube.apply(website, force=True)["spec"]["megabytes"] == 7
