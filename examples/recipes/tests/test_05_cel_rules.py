"""CEL rules with oldSelf

**What.** The CRD itself forbids what must not change, so that no controller has to cope
with it.

**Why it is hard.** A rule with `oldSelf` is asked only on updates, and only where the
field was there before and still is: a test that creates wrong objects never meets it,
and one that changes the value does not notice that it can be removed and set anew. A
request that is refused for another reason, a typo say, looks like success.

**How.** `expect_rejected` sends the object, wants it to be refused, and checks for
what: an object that was read is updated, any other is created. It returns the API
server's `Status`, which names each field.
"""

from __future__ import annotations

import pytest

from pytest_kube import Kube, Object


def test_the_host_is_for_ever(kube: Kube, website: Object) -> None:
    """The field cannot change; the answer names it."""
    created = kube.create(website)

    created["spec"]["host"] = "other.example.com"
    status = kube.expect_rejected(created, match="the host cannot be changed")

    [cause] = status["details"]["causes"]
    assert cause["field"] == "spec.host"


@pytest.mark.parametrize("size", [2, 3, 100])
def test_space_can_grow(kube: Kube, website: Object, size: int) -> None:
    """A rule must not forbid too much, either."""
    website["spec"]["megabytes"] = 2
    kube.create(website)

    patched = kube.patch(website, {"spec": {"megabytes": size}})

    assert patched["spec"]["megabytes"] == size


@pytest.mark.parametrize(
    ("size", "why"), [(1, "space can only grow"), (101, "at most 100 MB")]
)
def test_space_has_limits(kube: Kube, website: Object, size: int, why: str) -> None:
    """Each limit has a rule of its own."""
    website["spec"]["megabytes"] = 2
    created = kube.create(website)

    created["spec"]["megabytes"] = size

    kube.expect_rejected(created, match=why)


def test_the_region_cannot_be_removed_and_set_anew(kube: Kube, website: Object) -> None:
    """An optional field that cannot change needs a rule where it may be absent."""
    created = kube.create(website)  # without a region
    created["spec"]["region"] = "north"
    chosen = kube.update(created)

    del chosen["spec"]["region"]

    kube.expect_rejected(chosen, match="the region cannot be removed")
