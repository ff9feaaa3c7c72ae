"""Owner references

**What.** What a controller makes belongs to the object that it was made for, and goes
with it.

**Why it is hard.** The API server stores ownerReferences and does nothing about them:
deleting is the work of the garbage collector, which is no part of envtest. So a test
there can wait for ever for a child to go; or never notices a reference with a wrong
uid, for which the collector deletes the child at once.

**How.** Where Kubernetes' own controllers run (kwok, kind), delete the owner and wait
for the child. Elsewhere compare the reference with the owner, uid included.
"""

from __future__ import annotations

import pytest

from pytest_kube import Kube, Object, deleted, ready


@pytest.mark.usefixtures("controller")
def test_the_page_belongs_to_its_website(kube: Kube, website: Object) -> None:
    """The reference is complete: a wrong one would have the page deleted."""
    kube.apply(website)
    owner = kube.wait_for(website, ready)

    [reference] = kube.get("configmap/shop")["metadata"]["ownerReferences"]

    assert reference == {
        "apiVersion": owner["apiVersion"],
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


@pytest.mark.usefixtures("controller", "workloads")
def test_the_page_goes_with_its_website(kube: Kube, website: Object) -> None:
    """The garbage collector finds it by the reference."""
    kube.apply(website)
    kube.wait_for(website, ready)
    page = kube.get("configmap/shop")

    kube.delete(website)

    kube.wait_for(page, deleted)


@pytest.mark.usefixtures("controller", "workloads")
def test_the_page_can_be_kept(kube: Kube, website: Object) -> None:
    """Who deletes the Website and orphans the page finds it without an owner."""
    kube.apply(website)
    kube.wait_for(website, ready)

    kube.delete(website, propagation="Orphan")

    assert "ownerReferences" not in kube.get("configmap/shop")["metadata"]
