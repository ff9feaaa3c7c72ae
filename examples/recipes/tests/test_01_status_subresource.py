"""The status subresource

**What.** Users own the spec, the controller owns the status: neither writes to the
other's half, and the status tells for which spec it was made.

**Why it is hard.** The API server does not complain about a status in the wrong
request, it drops it. And "Ready" read right after a change of the spec is what was true
of the spec before: a test that only waits for Ready passes too early, now and then.

**How.** Write to each half through the other's door, and look that nothing came
through. To wait for the answer to *this* change, ask for `observed` as well: the status
was made for the latest generation. `ready` includes that for kinds that report it.
"""

from __future__ import annotations

import pytest

from pytest_kube import Kube, Object, condition, observed, ready


def test_a_status_needs_its_own_request(kube: Kube, website: Object) -> None:
    """What a user says about the status is dropped, also when creating."""
    created = kube.create({**website, "status": {"url": "https://mine.example.com/"}})
    assert "status" not in created

    reported = kube.patch(
        created,
        {"status": {"url": "https://shop.example.com/"}, "spec": {"text": "Mine!"}},
        subresource="status",
    )

    assert reported["status"] == {"url": "https://shop.example.com/"}
    assert reported["spec"]["text"] == "Hello!"
    assert reported["metadata"]["generation"] == 1  # a status is no new spec


@pytest.mark.usefixtures("controller")
def test_the_status_is_about_the_latest_spec(kube: Kube, website: Object) -> None:
    """After a change, the old Ready does not count."""
    kube.apply(website)
    kube.wait_for(website, ready)

    kube.patch(website, {"spec": {"text": "Sale!"}})

    kube.wait_for(website, condition("Ready") & observed)
    assert kube.get("configmap/shop")["data"] == {"index.html": "Sale!"}
