"""Finalizers

**What.** What an object has outside of the cluster goes before the object does; and
while that fails, the object stays, and says why.

**Why it is hard.** With a finalizer, deleting takes as long as the controller needs, or
for ever, and then the namespace hangs, too: in most test suites one failure like that
spoils all tests after it. Forgetting the finalizer shows only if the controller was not
running, or was slow, when the object was deleted.

**How.** `delete` waits until the object with that uid is gone, and its timeout names
the finalizers that are left. With `wait=False` the test can look at the object that is
being deleted. Afterwards the cluster is rolled back, whatever is stuck in it.
"""

from __future__ import annotations

import pytest
from websites import FINALIZER, Zone

from pytest_kube import Controller, Kube, Object, WaitTimeoutError, condition, ready


@pytest.mark.usefixtures("controller")
def test_cleans_up_before_the_object_goes(
    kube: Kube, website: Object, zone: Zone
) -> None:
    """The host is in the zone as long as the Website is there, and not longer."""
    kube.apply(website)
    kube.wait_for(website, ready)
    assert zone == {"shop.example.com": "shop"}

    kube.delete(website)

    assert zone == {}


@pytest.mark.usefixtures("controller")
def test_stays_until_it_could_clean_up(kube: Kube, website: Object, zone: Zone) -> None:
    """While the zone cannot be changed the Website says so, and goes afterwards."""
    kube.apply(website)
    there = kube.wait_for(website, ready)
    zone.locked = True

    kube.delete(website, wait=False)
    kube.wait_for(website, condition("Ready", "False", reason="Locked"))
    with pytest.raises(WaitTimeoutError, match=FINALIZER):
        kube.delete(website, timeout=0.1)

    zone.locked = False
    kube.delete(there)
    assert zone == {}


def test_nothing_is_left_when_no_controller_was_there(
    kube: Kube, website: Object, zone: Zone, controller: Controller
) -> None:
    """A Website that is deleted meanwhile waits for the controller to come back."""
    kube.apply(website)
    kube.wait_for(website, ready)
    controller.stop()

    kube.delete(website, wait=False)

    assert kube.get(website)["metadata"]["deletionTimestamp"]
    assert "shop.example.com" in zone
