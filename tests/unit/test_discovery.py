"""Names of kinds: which resource they mean, and which ones they may mean."""

from __future__ import annotations

import pytest

from pytest_kube.discovery import Resource, ambiguous, named, parse, unknown


def resource(
    group: str, plural: str, kind: str, *short: str, version: str = "v1"
) -> Resource:
    return Resource(group, version, plural, kind, kind.lower(), True, short)


PODS = resource("", "pods", "Pod", "po")
SERVICES = resource("", "services", "Service", "svc")
EVENTS = resource("", "events", "Event", "ev")
NEW_EVENTS = resource("events.k8s.io", "events", "Event", "ev")
METRICS = resource("metrics.k8s.io", "pods", "PodMetrics")
SCALERS = resource("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
OLD_SCALERS = resource(
    "autoscaling",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    version="v1beta1",
)
KNATIVE = resource("serving.knative.dev", "services", "Service", "ksvc")
CONTOSO = resource("contoso.com", "services", "Service")
SHORT = resource("example.com", "widgets", "Widget", "pod", "wi")
SERVED = [
    PODS,
    SERVICES,
    EVENTS,
    SCALERS,
    OLD_SCALERS,
    NEW_EVENTS,
    METRICS,
    KNATIVE,
    CONTOSO,
    SHORT,
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pods", [PODS]),
        ("Pod", [PODS]),
        ("po", [PODS]),
        ("POD", [PODS]),
        ("pod", [PODS]),
        ("pods.metrics.k8s.io", [METRICS]),
        ("podmetrics", [METRICS]),
        ("events", [EVENTS]),
        ("events.events.k8s.io", [NEW_EVENTS]),
        ("event.v1.events.k8s.io", [NEW_EVENTS]),
        ("horizontalpodautoscaler", [SCALERS]),
        ("horizontalpodautoscalers.v1beta1.autoscaling", [OLD_SCALERS]),
        ("horizontalpodautoscalers.autoscaling", [SCALERS]),
        ("ksvc", [KNATIVE]),
        ("svc", [SERVICES]),
        ("service", [SERVICES, KNATIVE, CONTOSO]),
        ("services.v1", [SERVICES]),
        ("services.v1.", [SERVICES]),
        ("service.contoso.com", [CONTOSO]),
        ("service.v1.serving.knative.dev", [KNATIVE]),
        ("wi", [SHORT]),
        ("service.v2", []),
        ("nothing", []),
        ("", []),
    ],
)
def test_name_means(name: str, expected: list[Resource]) -> None:
    """A full name before a short one; of Kubernetes' own groups the first one."""
    assert named(SERVED, name) == expected


def test_several_meanings_are_listed_as_they_can_be_written() -> None:
    """Each line is a name that means one of them."""
    error = ambiguous("service", named(SERVED, "service"))

    first, *lines = str(error).splitlines()
    assert first == "'service' is served by several groups; write one of"
    assert lines == [
        "    services.v1  (Service, v1)",
        "    services.serving.knative.dev  (Service, serving.knative.dev/v1)",
        "    services.contoso.com  (Service, contoso.com/v1)",
    ]
    assert all(len(named(SERVED, line.split()[0])) == 1 for line in lines)
    assert error.kind == "service"


def test_unknown_name_tells_the_nearest_with_their_versions() -> None:
    """A kind that is served in another version is among them."""
    error = unknown("Widget", SERVED, " in example.com/v2")

    assert str(error) == (
        "the API server serves no kind 'Widget' in example.com/v2; near it: Widget "
        "(example.com/v1). If a CRD defines it, name its file in kube_crds"
    )


def test_subresource_knows_what_is_created_there() -> None:
    """And that nothing is, where nothing can be."""
    answer = {
        "items": [
            {
                "metadata": {},
                "versions": [
                    {
                        "version": "v1",
                        "resources": [
                            {
                                "resource": "pods",
                                "scope": "Namespaced",
                                "responseKind": {"kind": "Pod"},
                                "subresources": [
                                    {
                                        "subresource": "eviction",
                                        "verbs": ["create"],
                                        "responseKind": {
                                            "group": "policy",
                                            "version": "v1",
                                            "kind": "Eviction",
                                        },
                                    },
                                    {"subresource": "status", "verbs": ["get"]},
                                ],
                            }
                        ],
                    }
                ],
            }
        ]
    }

    (pods,) = parse(answer)

    assert pods.subresources == {"eviction": ("policy/v1", "Eviction"), "status": None}
