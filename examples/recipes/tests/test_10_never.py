"""Things that must never happen

**What.** A rule that holds at every moment, not only at the end: never Ready before
there is a page, never without a finalizer, never touched while paused.

**Why it is hard.** A test sees the moments at which it looks. A state that lasts for
some milliseconds and is then put right fails one run of a hundred; or no run of the
tests, and one of the product.

**How.** `history` has every version of every object since the test began, also those
that nobody looked at, and takes no time: `never` and `always` ask all of them. What has
not happened *yet* needs time: `consistently` watches for a while.
"""

from __future__ import annotations

import pytest

from pytest_kube import Kube, Object, field, ready


@pytest.mark.usefixtures("controller")
def test_is_never_ready_without_a_finalizer(kube: Kube, website: Object) -> None:
    """Between the two, a deletion would have left the host behind."""
    kube.apply(website)
    kube.wait_for(website, ready)
    kube.delete(website)

    safe = field("metadata.finalizers")
    kube.history(website).never(ready & ~safe)


@pytest.mark.usefixtures("controller")
def test_has_a_page_before_it_is_ready(kube: Kube, website: Object) -> None:
    """Versions of different objects are in one order, too."""
    kube.apply(website)
    kube.wait_for(website, ready)

    [page] = kube.history("configmap/shop")
    published, *_ = kube.history(website).sequence(ready)
    assert page.revision < published.revision


@pytest.mark.usefixtures("controller")
def test_is_not_touched_while_paused(kube: Kube, website: Object) -> None:
    """The page stays as it was, and nobody writes to the Website."""
    kube.apply(website)
    kube.wait_for(website, ready)
    page = kube.get("configmap/shop")
    paused = kube.patch(website, {"spec": {"paused": True, "text": "Draft"}})

    kube.consistently(page, field("data", page["data"]), seconds=0.3)

    last = kube.history(website)[-1]
    assert last.revision == int(paused["metadata"]["resourceVersion"])
