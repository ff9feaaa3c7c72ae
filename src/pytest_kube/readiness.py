"""What an object reports of itself: ready, observed, failed, and why it is not.

Each rule is a function of the object that returns the reason why it does not hold, on
one line, or an empty text when it does. No I/O, no clock; no rule ever raises.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_kube.fieldpath import brief
from pytest_kube.reports import (
    ABSENT,
    NO_STATUS,
    Object,
    at,
    behind,
    being_deleted,
    count,
    met,
    out_of_phase,
    reported,
    said,
    unmet,
    unobserved,
)

Rule = Callable[[Object], str]
"""Says why the object is not ready; nothing when it is."""

_STARTING = {"", "ContainerCreating", "PodInitializing"}
# How many replicas exist, are of the current revision, are available.
_COUNTS = {
    "DaemonSet": (
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberAvailable",
    ),
    "Deployment": ("replicas", "updatedReplicas", "availableReplicas"),
    "ReplicaSet": ("replicas", "replicas", "availableReplicas"),
    "ReplicationController": ("replicas", "replicas", "availableReplicas"),
    "StatefulSet": ("replicas", "updatedReplicas", "availableReplicas"),
}
# Nothing reports on these kinds, or what is reported does not tell whether they are
# in service: they are as soon as they exist.
_IN_SERVICE_WHEN_THERE = {
    "": """Binding ComponentStatus ConfigMap Endpoints Event LimitRange PodTemplate
        Secret ServiceAccount""",
    "admissionregistration.k8s.io": """MutatingAdmissionPolicy
        MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
        ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration""",
    "apps": "ControllerRevision",
    "authentication.k8s.io": "SelfSubjectReview TokenRequest TokenReview",
    "authorization.k8s.io": """LocalSubjectAccessReview SelfSubjectAccessReview
        SelfSubjectRulesReview SubjectAccessReview""",
    "autoscaling": "Scale",
    "batch": "CronJob",
    "certificates.k8s.io": "ClusterTrustBundle",
    "coordination.k8s.io": "Lease LeaseCandidate",
    "discovery.k8s.io": "EndpointSlice",
    "events.k8s.io": "Event",
    "flowcontrol.apiserver.k8s.io": "PriorityLevelConfiguration",
    "networking.k8s.io": "IPAddress Ingress IngressClass NetworkPolicy",
    "node.k8s.io": "RuntimeClass",
    "policy": "Eviction",
    "rbac.authorization.k8s.io": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "resource.k8s.io": """DeviceClass DeviceTaintRule ResourceClaimTemplate
        ResourceSlice""",
    "scheduling.k8s.io": "PriorityClass Workload",
    "storage.k8s.io": """CSIDriver CSINode CSIStorageCapacity StorageClass
        VolumeAttributesClass""",
}


def failure(obj: Object | None) -> str:
    """Return what the object reports when it will not get any further.

    Args:
        obj: The object; ``None``, or one that may still get there, fails nothing.

    Example:
        >>> failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
        >>> job = {"apiVersion": "batch/v1", "kind": "Job"}
        >>> failure({**job, "status": {"conditions": [failed]}})
        'Failed=True, reason DeadlineExceeded'
    """
    if obj is None:
        return ""
    types, phase = _FAILURES.get(_kind(obj), _ANY_FAILURE)
    if phase and at(obj, "status", "phase") == phase and not behind(obj, {}):
        return f"phase {phase}{said(at(obj, 'status'))}"
    for wanted in types:
        if met(obj, *wanted):
            found = reported(obj, wanted[0])
            return f"{brief(found['type'])}={brief(found['status'])}{said(found)}"
    return ""


def unready(obj: Object | None) -> str:
    """Say why the object is not ready, by the rules of its kind; nothing when it is."""
    if obj is None:
        return ABSENT
    if at(obj, "metadata", "deletionTimestamp"):
        return being_deleted(obj)
    if (rule := _RULES.get(_kind(obj))) is not None:
        return rule(obj)
    return _not_current(obj)


def _kind(obj: Object) -> tuple[str, str]:
    group = str(at(obj, "apiVersion")).rpartition("/")[0]
    return group, str(at(obj, "kind"))


def _not_current(obj: Object) -> str:
    """Judge an object of any kind by the conventions for what it reports."""
    if at(obj, "spec") is not None and not at(obj, "status"):
        return NO_STATUS  # nothing has looked at it yet
    if failing := failure(obj):
        return failing
    if older := behind(obj, {}):
        return f"the status is about {older}"
    if met(obj, "Reconciling"):
        found = reported(obj, "Reconciling")
        return f"Reconciling={found['status']}{said(found)}"
    positive = [type_ for type_ in ("Ready", "Available") if reported(obj, type_)]
    return unmet(obj, positive[0]) if positive else ""


def _not_rolled_out(obj: Object) -> str:
    """Say which replicas lack, are old, or are not available."""
    if failing := failure(obj):
        return failing
    if at(obj, "status", "observedGeneration") is None or behind(obj, {}):
        older = behind(obj, {})
        return f"the rollout is not observed yet{f': {older}' if older else ''}"
    kind = str(at(obj, "kind"))
    present, updated, available = (count(obj, "status", n) for n in _COUNTS[kind])
    wanted = count(obj, "spec", "replicas", default=1)
    if kind == "DaemonSet":
        wanted = count(obj, "status", "desiredNumberScheduled")
    strategy = at(obj, "spec", "updateStrategy")
    partition = count(strategy, "rollingUpdate", "partition")
    to_update = 0 if at(strategy, "type") == "OnDelete" else wanted - partition
    text = ""
    if updated < to_update:
        done = "are updated" if _COUNTS[kind][0] != _COUNTS[kind][1] else "exist"
        text = f"{updated} of {to_update} replicas {done}"
    elif present != wanted:
        text = f"{present} replicas exist instead of {wanted}"
    elif available < wanted:
        text = f"{available} of {wanted} replicas are available"
    if text and met(obj, "ReplicaFailure"):
        text = f"ReplicaFailure=True{said(reported(obj, 'ReplicaFailure'))}; {text}"
    return text


def _pod(obj: Object) -> str:
    if at(obj, "status", "phase") == "Succeeded" or met(obj, "Ready"):
        return ""
    if failing := failure(obj):
        return failing
    if met(obj, "PodScheduled", "False"):
        return f"PodScheduled=False{said(reported(obj, 'PodScheduled'))}"
    for list_ in ("initContainerStatuses", "containerStatuses"):
        statuses = at(obj, "status", list_)
        for status in statuses if isinstance(statuses, list) else ():
            waiting = at(status, "state", "waiting")
            if str(at(waiting, "reason") or "") not in _STARTING:
                return f"container {brief(at(status, 'name'))} waits{said(waiting)}"
    return unmet(obj, "Ready")


def _job(obj: Object) -> str:
    if why := failure(obj) or unmet(obj, "Complete"):
        suspended = at(obj, "spec", "suspend") is True
        return f"it is suspended; {why}" if suspended else why
    return ""


def _unless(*wanted: str | tuple[str, str]) -> Rule:
    """Return the rule that nothing has failed and these conditions are met."""
    pairs = [(each, "True") if isinstance(each, str) else each for each in wanted]

    def rule(obj: Object) -> str:
        unmet_ones = (unmet(obj, *pair) for pair in pairs)
        return failure(obj) or next(filter(None, unmet_ones), "")

    return rule


def _service(obj: Object) -> str:
    balanced = at(obj, "spec", "type") == "LoadBalancer"
    missing = balanced and not at(obj, "status", "loadBalancer", "ingress")
    return "the load balancer has no ingress yet" if missing else ""


def _quota(obj: Object) -> str:
    wanted, counted = at(obj, "spec", "hard"), at(obj, "status", "hard")
    if (wanted or {}) == (counted or {}):
        return ""
    return f"the status counts {brief(counted)}, the spec has {brief(wanted)}"


def _budget(obj: Object) -> str:
    healthy = count(obj, "status", "currentHealthy")
    wanted = count(obj, "status", "desiredHealthy")
    short = f"{healthy} of {wanted} pods are healthy" if healthy < wanted else ""
    return unobserved(obj) or short


def _attachment(obj: Object) -> str:
    if at(obj, "status", "attached") is True:
        return ""
    return f"not attached{said(at(obj, 'status', 'attachError'))}"


def _certificate(obj: Object) -> str:
    if why := failure(obj) or unmet(obj, "Approved"):
        return why
    issued = at(obj, "status", "certificate")
    return "" if issued else "approved, but no certificate is issued yet"


# Which conditions, as type and status and reason, or else which phase, are the end.
_Failures = tuple[tuple[tuple[str, ...], ...], str]
_ANY_FAILURE: _Failures = ((("Stalled",), ("Failed",)), "Failed")
_CERTIFICATE: _Failures = ((("Denied",), ("Failed",)), "")
_FAILURES: dict[tuple[str, str], _Failures] = {
    ("", "PersistentVolume"): ((), "Failed"),
    ("", "PersistentVolumeClaim"): ((), "Lost"),
    ("", "Pod"): ((), "Failed"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        (("NamesAccepted", "False"),),
        "",
    ),
    ("apps", "Deployment"): (
        (("Progressing", "False", "ProgressDeadlineExceeded"),),
        "",
    ),
    ("batch", "Job"): ((("Failed",),), ""),
    ("certificates.k8s.io", "CertificateSigningRequest"): _CERTIFICATE,
    ("certificates.k8s.io", "PodCertificateRequest"): _CERTIFICATE,
}

_RULES: dict[tuple[str, str], Rule] = {
    **{
        (group, kind): lambda _: ""
        for group, kinds in _IN_SERVICE_WHEN_THERE.items()
        for kind in kinds.split()
    },
    **{
        ("" if kind == "ReplicationController" else "apps", kind): _not_rolled_out
        for kind in _COUNTS
    },
    ("", "Namespace"): lambda obj: out_of_phase(obj, "Active"),
    ("", "Node"): lambda obj: unmet(obj, "Ready"),
    ("", "PersistentVolume"): lambda obj: out_of_phase(obj, "Available", "Bound"),
    ("", "PersistentVolumeClaim"): lambda obj: out_of_phase(obj, "Bound"),
    ("", "Pod"): _pod,
    ("", "ResourceQuota"): _quota,
    ("", "Service"): _service,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): unobserved,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _unless("Established"),
    ("apiregistration.k8s.io", "APIService"): _unless("Available"),
    ("autoscaling", "HorizontalPodAutoscaler"): _unless("AbleToScale", "ScalingActive"),
    ("batch", "Job"): _job,
    ("certificates.k8s.io", "CertificateSigningRequest"): _certificate,
    ("certificates.k8s.io", "PodCertificateRequest"): _unless("Issued"),
    # Its API server reports that the priority level it names exists.
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): _unless(("Dangling", "False")),
    ("internal.apiserver.k8s.io", "StorageVersion"): _unless(
        "AllEncodingVersionsEqual"
    ),
    ("networking.k8s.io", "ServiceCIDR"): _unless("Ready"),
    ("policy", "PodDisruptionBudget"): _budget,
    ("resource.k8s.io", "ResourceClaim"): lambda obj: (
        "" if at(obj, "status", "allocation") else "not allocated yet"
    ),
    ("resource.k8s.io", "ResourcePoolStatusRequest"): _unless("Complete"),
    ("scheduling.k8s.io", "PodGroup"): _unless("PodGroupScheduled"),
    ("storage.k8s.io", "VolumeAttachment"): _attachment,
    ("storagemigration.k8s.io", "StorageVersionMigration"): _unless("Succeeded"),
}
