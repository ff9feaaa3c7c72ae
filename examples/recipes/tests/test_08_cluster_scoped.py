"""Cluster-scoped resources

**What.** Objects that are in no namespace: the kind's own behaviour, and who may do
what with them.

**Why it is hard.** A namespace for each test keeps them apart from nothing: two tests
with an object of the same name disturb each other, and one that fails leaves its
objects to all that come after it. So do the ClusterRoles that are needed to test
permissions.

**How.** On kwok, envtest and kind the whole cluster is rolled back after each test,
objects without a namespace included: give them the names that you like. `as_user` and
`as_service_account` give the same handle with somebody else's permissions.
"""

from __future__ import annotations

import pytest

from pytest_kube import APIError, Kube

TENANT = {
    "apiVersion": "example.com/v1",
    "kind": "Tenant",
    "metadata": {"name": "acme"},
    "spec": {"contact": "jane@example.com"},
}
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: tenant-viewer}
rules:
- apiGroups: [example.com]
  resources: [tenants]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: tenant-viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenant-viewer}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: support}
"""


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_has_the_cluster_for_itself(kube: Kube, attempt: int) -> None:
    """The same name twice: what the first test made is gone in the second."""
    assert kube.list("tenants") == []

    tenant = kube.create(TENANT)

    assert tenant.namespace is None
    assert kube.get("tenant/acme") == tenant


def test_support_may_look_at_tenants_only(kube: Kube) -> None:
    """A role is tested by what it lets somebody do, and what it does not."""
    kube.apply(TENANT)
    kube.apply(ROLE)
    support = kube.as_user("jane", "support")

    # A new role is in force a moment later.
    assert support.eventually(lambda: support.get("tenant/acme")).name == "acme"
    with pytest.raises(APIError, match='User "jane" cannot delete resource "tenants"'):
        support.delete("tenant/acme")
