"""Rules of roles: what is missing, what is not needed, how they are written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pytest_kube.rbac import RBACReport, Right, as_yaml, missing, rules
from pytest_kube.requests_log import Request


def request(verb: str, resource: str, group: str = "", code: int = 200) -> Request:
    message = ""
    if code == 403:
        message = f'cannot {verb} resource "{resource}" in API group "{group}" in the …'
    now = datetime.now(UTC)
    return Request("me", verb, group, resource, "default", "", code, message, now)


def test_what_was_refused_is_put_into_few_rules() -> None:
    """Verbs of a resource together, resources with the same verbs, too."""
    asked = [
        request("create", "pods", code=403),
        request("list", "pods", code=403),
        request("list", "pods", code=403),
        request("get", "services"),
        request("create", "secrets", code=403),
        request("list", "secrets", code=403),
        request("patch", "widgets/status", "example.com", code=403),
    ]

    assert as_yaml(missing(asked)) == [
        '- apiGroups: [""]',
        "  resources: [pods, secrets]",
        "  verbs: [create, list]",
        "- apiGroups: [example.com]",
        "  resources: [widgets/status]",
        "  verbs: [patch]",
    ]


def test_what_is_applied_may_have_to_be_created() -> None:
    """The server's text says which right is missing, not the request."""
    applied = request("patch", "configmaps", code=403)
    text = 'User "me" cannot create resource "configmaps" in API group "" in the …'
    object.__setattr__(applied, "message", text)

    assert missing([applied]) == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}
    ]


def test_quota_is_no_role() -> None:
    """It is answered with 403 as well."""
    quota = request("create", "pods", code=403)
    object.__setattr__(quota, "message", "exceeded quota: few-pods")

    assert missing([quota]) == []


@pytest.mark.parametrize(
    ("granted", "used", "expected"),
    [
        (("", "pods", "get"), ("", "pods", "get"), True),
        (("", "pods", "get"), ("", "pods", "list"), False),
        (("", "pods", "get"), ("apps", "pods", "get"), False),
        (("*", "*", "*"), ("apps", "deployments", "get"), True),
        (("", "*", "get"), ("", "pods", "get"), True),
        (("", "pods", "*"), ("", "pods/status", "get"), False),
        (("apps", "*/scale", "get"), ("apps", "deployments/scale", "get"), True),
        (("apps", "*/scale", "get"), ("apps", "deployments", "get"), False),
    ],
)
def test_right_covers(
    granted: tuple[str, str, str], used: tuple[str, str, str], *, expected: bool
) -> None:
    """As the API server reads a role."""
    assert Right(*granted).covers(Right(*used)) is expected


def test_report_is_yaml_with_comments() -> None:
    """To be copied into a role."""
    unused = rules([Right("*", "*", "*")])

    assert str(RBACReport("me", [], unused)).splitlines() == [
        "# me",
        "# asked for, and not granted:",
        "# nothing",
        "# granted, and never asked for:",
        '- apiGroups: ["*"]',
        '  resources: ["*"]',
        '  verbs: ["*"]',
    ]
