"""Many objects

**What.** A controller copes with hundreds of objects, and misses none.

**Why it is hard.** Waiting for one after the other takes long, and tells little when it
fails: the first object in the list is not the interesting one. Asking all of them again
and again loads the API server that is to be tested. And "all are ready" is true of no
object at all.

**How.** `wait_for_all` follows one watch of the whole kind, and wants exactly `count`
objects. Its timeout names those that are missing something. And `settle` waits until
nobody has written anything for a moment: a controller that never rests fails there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from websites import Zone

from pytest_kube import Kube, Object, ready


@pytest.mark.usefixtures("controller")
def test_publishes_them_all(
    kube: Kube, many: Callable[[int], list[Object]], zone: Zone
) -> None:
    """Every Website gets ready, and has its page and its host."""
    for website in many(200):
        kube.create(website)

    websites = kube.wait_for_all("websites", ready, count=200, timeout=30)

    names = {website.name for website in websites}
    assert names <= {page.name for page in kube.list("configmaps")}
    assert names == set(zone.values())


def test_takes_over_what_was_there_before(
    kube: Kube,
    many: Callable[[int], list[Object]],
    run_controller: Callable[..., object],
) -> None:
    """A controller that starts late finds them all, and changes nothing twice."""
    for website in many(100):
        kube.create(website)

    run_controller("websites:run")

    kube.wait_for_all("websites", ready, count=100, timeout=30)
    kube.settle()
    # Created, given a finalizer, reported as ready.
    assert len(kube.history("websites")) == 3 * 100
