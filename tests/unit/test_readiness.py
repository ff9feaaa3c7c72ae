"""What ready, observed and failed mean for each kind, and why an object is not."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kube.conditions import failed, observed, ready
from pytest_kube.readiness import _RULES, failure, unready
from pytest_kube.reports import being_deleted

# Every kind that an API server of Kubernetes 1.36 serves, alpha ones included.
SERVED = """
v1: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node
    PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController
    ResourceQuota Secret Service ServiceAccount
admissionregistration.k8s.io/v1: MutatingAdmissionPolicy MutatingAdmissionPolicyBinding
    MutatingWebhookConfiguration ValidatingAdmissionPolicy
    ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
apiextensions.k8s.io/v1: CustomResourceDefinition
apiregistration.k8s.io/v1: APIService
apps/v1: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
authentication.k8s.io/v1: SelfSubjectReview TokenRequest TokenReview
authorization.k8s.io/v1: LocalSubjectAccessReview SelfSubjectAccessReview
    SelfSubjectRulesReview SubjectAccessReview
autoscaling/v1: Scale
autoscaling/v2: HorizontalPodAutoscaler
batch/v1: CronJob Job
certificates.k8s.io/v1: CertificateSigningRequest
certificates.k8s.io/v1beta1: ClusterTrustBundle PodCertificateRequest
coordination.k8s.io/v1: Lease
coordination.k8s.io/v1beta1: LeaseCandidate
discovery.k8s.io/v1: EndpointSlice
events.k8s.io/v1: Event
flowcontrol.apiserver.k8s.io/v1: FlowSchema PriorityLevelConfiguration
internal.apiserver.k8s.io/v1alpha1: StorageVersion
networking.k8s.io/v1: IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR
node.k8s.io/v1: RuntimeClass
policy/v1: Eviction PodDisruptionBudget
rbac.authorization.k8s.io/v1: ClusterRole ClusterRoleBinding Role RoleBinding
resource.k8s.io/v1: DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
resource.k8s.io/v1beta2: DeviceTaintRule
resource.k8s.io/v1alpha3: ResourcePoolStatusRequest
scheduling.k8s.io/v1: PriorityClass
scheduling.k8s.io/v1alpha2: PodGroup Workload
storage.k8s.io/v1: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment
    VolumeAttributesClass
storagemigration.k8s.io/v1beta1: StorageVersionMigration
"""


def served() -> list[tuple[str, str]]:
    """Return apiVersion and kind of everything in the list."""
    found = []
    version = ""
    for word in SERVED.split():
        if word.endswith(":"):
            version = word.removesuffix(":")
        else:
            found.append((version, word))
    return found


def reporting(*conditions: str, **status: Any) -> dict[str, Any]:
    """Return a status with conditions, each written ``Type=Status Reason``."""
    entries = []
    for text in conditions:
        reported, _, reason = text.partition(" ")
        type_, _, value = reported.partition("=")
        entries.append({"type": type_, "status": value or "True"})
        if reason:
            entries[-1] |= {"reason": reason, "message": f"because of {reason}"}
    return {"conditions": entries, **status}


UP = {
    "observedGeneration": 2,
    "replicas": 3,
    "updatedReplicas": 3,
    "availableReplicas": 3,
}
DAEMONS = {
    "observedGeneration": 2,
    "desiredNumberScheduled": 3,
    "currentNumberScheduled": 3,
    "updatedNumberScheduled": 3,
    "numberAvailable": 3,
}
THREE = {"replicas": 3}
LOADED = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}

# Kind, spec, a status with which it is ready, one with which it is not, and why.
DECIDED: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ("Namespace", {}, {"phase": "Active"}, {"phase": "Terminating"}, "phase is Terminating"),
    ("Node", {}, reporting("Ready"), reporting("Ready=False KubeletNotReady"), "Ready=False, reason KubeletNotReady: because of KubeletNotReady"),
    ("PersistentVolume", {}, {"phase": "Available"}, {"phase": "Released"}, "phase is Released"),
    ("PersistentVolumeClaim", {}, {"phase": "Bound"}, {"phase": "Pending"}, "phase is Pending"),
    ("Pod", {}, reporting("Ready"), reporting("Ready=False ContainersNotReady"), "Ready=False, reason ContainersNotReady: because of ContainersNotReady"),
    ("ReplicationController", THREE, UP, {**UP, "replicas": 2}, "2 of 3 replicas exist"),
    ("ResourceQuota", {"hard": {"pods": "4"}}, {"hard": {"pods": "4"}}, {"hard": {"pods": "3"}}, 'the status counts {"pods": "3"}, the spec has {"pods": "4"}'),
    ("Service", {"type": "LoadBalancer"}, LOADED, {"loadBalancer": {}}, "the load balancer has no ingress yet"),
    ("ValidatingAdmissionPolicy", {}, {"observedGeneration": 2}, {"observedGeneration": 1}, "the status is about generation 1 of 2"),
    ("CustomResourceDefinition", {}, reporting("NamesAccepted", "Established"), reporting("Established", "NamesAccepted=False PluralConflict"), "NamesAccepted=False, reason PluralConflict: because of PluralConflict"),
    ("APIService", {}, reporting("Available"), reporting("Available=False MissingEndpoints"), "Available=False, reason MissingEndpoints: because of MissingEndpoints"),
    ("DaemonSet", {}, DAEMONS, {**DAEMONS, "numberAvailable": 1}, "1 of 3 replicas are available"),
    ("Deployment", THREE, UP, {**UP, "availableReplicas": 2}, "2 of 3 replicas are available"),
    ("ReplicaSet", THREE, UP, {**UP, "observedGeneration": 1}, "the rollout is not observed yet: generation 1 of 2"),
    ("StatefulSet", THREE, UP, {**UP, "updatedReplicas": 1}, "1 of 3 replicas are updated"),
    ("HorizontalPodAutoscaler", {}, reporting("AbleToScale", "ScalingActive"), reporting("AbleToScale", "ScalingActive=False FailedGetResourceMetric"), "ScalingActive=False, reason FailedGetResourceMetric: because of FailedGetResourceMetric"),
    ("Job", {}, reporting("Complete"), {"active": 1}, "no conditions yet"),
    ("CertificateSigningRequest", {}, reporting("Approved", certificate="LS0t"), reporting("Approved"), "approved, but no certificate is issued yet"),
    ("PodCertificateRequest", {}, reporting("Issued"), {}, "no status yet"),
    ("FlowSchema", {}, reporting("Dangling=False"), reporting("Dangling=True NotFound"), "Dangling=True, reason NotFound: because of NotFound"),
    ("StorageVersion", {}, reporting("AllEncodingVersionsEqual"), reporting("AllEncodingVersionsEqual=False"), "AllEncodingVersionsEqual=False"),
    ("ServiceCIDR", {}, reporting("Ready"), reporting("Ready=False Terminating"), "Ready=False, reason Terminating: because of Terminating"),
    ("PodDisruptionBudget", {}, {"observedGeneration": 2, "currentHealthy": 3, "desiredHealthy": 3}, {"observedGeneration": 2, "currentHealthy": 1, "desiredHealthy": 3}, "1 of 3 pods are healthy"),
    ("ResourceClaim", {}, {"allocation": {"devices": {}}}, {}, "not allocated yet"),
    ("ResourcePoolStatusRequest", {}, reporting("Complete"), reporting("Failed=True Timeout"), "Failed=True, reason Timeout: because of Timeout"),
    ("PodGroup", {}, reporting("PodGroupScheduled"), reporting("PodGroupScheduled=False Unschedulable"), "PodGroupScheduled=False, reason Unschedulable: because of Unschedulable"),
    ("VolumeAttachment", {}, {"attached": True}, {"attached": False, "attachError": {"message": "no such volume"}}, "not attached: no such volume"),
    ("StorageVersionMigration", {}, reporting("Succeeded"), reporting("Running"), "no condition Succeeded; there is Running=True"),
]  # fmt: skip
BY_KIND = {case[0]: case for case in DECIDED}


def make(
    api_version: str, kind: str, spec: Any = None, status: Any = None
) -> dict[str, Any]:
    """Return an object of generation 2."""
    obj = {"apiVersion": api_version, "kind": kind}
    obj |= {"metadata": {"name": "x", "generation": 2}}
    obj |= {} if spec is None else {"spec": spec}
    return obj | ({} if status is None else {"status": status})


@pytest.mark.parametrize(("api_version", "kind"), served())
def test_every_kind_of_kubernetes_has_its_meaning(api_version: str, kind: str) -> None:
    """Each is ready by what it reports, or on purpose as soon as it exists."""
    if kind not in BY_KIND:
        assert ready(make(api_version, kind, spec={}))
        assert ready(make(api_version, kind))
        return

    _, spec, good, bad, why = BY_KIND[kind]

    assert ready.explain(make(api_version, kind, spec, good)) == ""
    assert ready(make(api_version, kind, spec, good))
    assert ready.explain(make(api_version, kind, spec, bad)) == why
    assert not ready(make(api_version, kind, spec, bad))
    assert not ready(make(api_version, kind, spec))


def test_no_rule_is_about_a_kind_that_does_not_exist() -> None:
    """Each rule is found under a group and a kind of the list, and none is left out."""
    listed = {(version.rpartition("/")[0], kind) for version, kind in served()}

    assert set(_RULES) == listed


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "status", "why"),
    [
        ("v1", "Pod", {}, {"phase": "Succeeded"}, ""),
        ("v1", "Pod", {}, reporting("Ready=False PodCompleted", phase="Succeeded"), ""),
        ("v1", "Pod", {}, {"phase": "Failed", "reason": "Evicted"}, "phase Failed, reason Evicted"),
        ("v1", "Pod", {}, reporting("PodScheduled=False Unschedulable"), "PodScheduled=False, reason Unschedulable: because of Unschedulable"),
        ("v1", "Pod", {}, reporting("Ready=False ContainersNotReady", containerStatuses=[{"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no image"}}}]), "container a waits, reason ImagePullBackOff: no image"),
        ("v1", "Pod", {}, reporting("Ready=False", containerStatuses=[{"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}]), "Ready=False"),
        ("v1", "Pod", {}, {"phase": "Pending"}, "no conditions yet"),
        ("v1", "PersistentVolume", {}, {"phase": "Bound"}, ""),
        ("v1", "Service", {}, None, ""),
        ("v1", "Service", {"type": "LoadBalancer"}, None, "the load balancer has no ingress yet"),
        ("serving.knative.dev/v1", "Service", {}, None, "no status yet"),
        ("v1", "ResourceQuota", {}, None, ""),
        ("apps/v1", "Deployment", THREE, None, "the rollout is not observed yet"),
        ("apps/v1", "Deployment", {"replicas": 0}, {"observedGeneration": 2}, ""),
        ("apps/v1", "Deployment", THREE, {**UP, "replicas": 4}, "4 replicas exist instead of 3"),
        ("apps/v1", "Deployment", THREE, {**UP, **reporting("Progressing=False ProgressDeadlineExceeded")}, "Progressing=False, reason ProgressDeadlineExceeded: because of ProgressDeadlineExceeded"),
        ("apps/v1", "ReplicaSet", THREE, {**reporting("ReplicaFailure=True FailedCreate"), "observedGeneration": 2}, "ReplicaFailure=True, reason FailedCreate: because of FailedCreate; 0 of 3 replicas exist"),
        ("apps/v1", "StatefulSet", {**THREE, "updateStrategy": {"type": "OnDelete"}}, {**UP, "updatedReplicas": 0}, ""),
        ("apps/v1", "StatefulSet", {**THREE, "updateStrategy": {"rollingUpdate": {"partition": 2}}}, {**UP, "updatedReplicas": 1}, ""),
        ("batch/v1", "Job", {"suspend": True}, reporting("Suspended"), "it is suspended; no condition Complete; there is Suspended=True"),
        ("batch/v1", "Job", {}, reporting("Failed=True BackoffLimitExceeded"), "Failed=True, reason BackoffLimitExceeded: because of BackoffLimitExceeded"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", {}, reporting("Denied=True No"), "Denied=True, reason No: because of No"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", {}, None, "no status yet"),
        ("example.com/v1", "Widget", None, None, ""),
        ("example.com/v1", "Widget", {}, None, "no status yet"),
        ("example.com/v1", "Widget", {}, {"observedGeneration": 1}, "the status is about generation 1 of 2"),
        ("example.com/v1", "Widget", {}, reporting("Ready", "Reconciling=True Rolling"), "Reconciling=True, reason Rolling: because of Rolling"),
        ("example.com/v1", "Widget", {}, reporting("Ready", "Stalled=True Stuck"), "Stalled=True, reason Stuck: because of Stuck"),
        ("example.com/v1", "Widget", {}, reporting("Failed=True Broken"), "Failed=True, reason Broken: because of Broken"),
        ("example.com/v1", "Widget", {}, {"phase": "Failed", "message": "oh"}, "phase Failed: oh"),
        ("example.com/v1", "Widget", {}, reporting("Available=False"), "Available=False"),
        ("example.com/v1", "Widget", {}, reporting("Ready", "Available=False"), ""),
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshot", {}, None, "no status yet"),
    ],
)  # fmt: skip
def test_ready_says_why_not(
    api_version: str, kind: str, spec: Any, status: Any, why: str
) -> None:
    """The reason comes first; nothing is said of what is ready."""
    obj = make(api_version, kind, spec, status)

    assert ready.explain(obj) == why
    assert ready(obj) is (why == "")


def test_old_autoscalers_report_their_conditions_in_an_annotation() -> None:
    """The first version of the API has no field for them."""
    text = '[{"type":"AbleToScale","status":"True"},{"type":"ScalingActive","status":"%s"}]'
    name = "autoscaling.alpha.kubernetes.io/conditions"
    obj = make("autoscaling/v1", "HorizontalPodAutoscaler", {}, {"currentReplicas": 1})

    assert ready.explain(obj) == "no conditions yet"

    obj["metadata"]["annotations"] = {name: text % "False"}
    assert ready.explain(obj) == "ScalingActive=False"

    obj["metadata"]["annotations"] = {name: text % "True"}
    assert ready(obj)


def test_nothing_that_is_being_deleted_is_ready() -> None:
    """Whatever its status says, it is on its way out."""
    obj = make("v1", "ConfigMap")
    obj["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"}

    assert unready(obj) == "it is being deleted, finalizers left: none"
    assert not ready(obj)


def test_absent_objects_are_not_ready_and_fail_nothing() -> None:
    """There is nothing that could report anything."""
    assert unready(None) == "there is no such object"
    assert failure(None) == ""
    assert being_deleted(None) == ""
    assert not ready(None)
    assert not observed(None)
    assert not failed(None)


@pytest.mark.parametrize(
    ("api_version", "kind", "status", "text"),
    [
        ("batch/v1", "Job", reporting("Failed=True DeadlineExceeded"), "Failed=True, reason DeadlineExceeded: because of DeadlineExceeded"),
        ("batch/v1", "Job", reporting("Failed=False"), ""),
        ("batch/v1", "Job", reporting("Stalled"), ""),
        ("batch/v1", "Job", {"phase": "Failed"}, ""),
        ("v1", "Pod", {"phase": "Failed", "reason": "Evicted", "message": "no memory"}, "phase Failed, reason Evicted: no memory"),
        ("v1", "Pod", {"phase": "Pending"}, ""),
        ("v1", "PersistentVolume", {"phase": "Failed"}, "phase Failed"),
        ("v1", "PersistentVolumeClaim", {"phase": "Lost"}, "phase Lost"),
        ("v1", "PersistentVolumeClaim", {"phase": "Pending"}, ""),
        ("apps/v1", "Deployment", reporting("Progressing=False ProgressDeadlineExceeded"), "Progressing=False, reason ProgressDeadlineExceeded: because of ProgressDeadlineExceeded"),
        ("apps/v1", "Deployment", reporting("Progressing=False Paused"), ""),
        ("apps/v1", "Deployment", reporting("Progressing=False ProgressDeadlineExceeded", observedGeneration=1), ""),
        ("apps/v1", "StatefulSet", reporting("Failed"), "Failed=True"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", reporting("NamesAccepted=False PluralConflict"), "NamesAccepted=False, reason PluralConflict: because of PluralConflict"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", reporting("NamesAccepted", "Established=False Installing"), ""),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", reporting("Denied"), "Denied=True"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", reporting("Failed"), "Failed=True"),
        ("example.com/v1", "Widget", reporting("Stalled=True Quota"), "Stalled=True, reason Quota: because of Quota"),
        ("example.com/v1", "Widget", reporting("Failed"), "Failed=True"),
        ("example.com/v1", "Widget", {"phase": "Failed"}, "phase Failed"),
        ("example.com/v1", "Widget", {"phase": "Failed", "observedGeneration": 1}, ""),
        ("example.com/v1", "Widget", reporting("Failed", observedGeneration=1), ""),
        ("example.com/v1", "Widget", {"conditions": [{"type": "Failed", "status": "True", "observedGeneration": 1}]}, ""),
        ("example.com/v1", "Widget", reporting("Ready=False"), ""),
        ("example.com/v1", "Widget", None, ""),
    ],
)  # fmt: skip
def test_failure_says_what_is_reported(
    api_version: str, kind: str, status: Any, text: str
) -> None:
    """What will not get any further says so, of the latest spec, in words of its kind."""
    obj = make(api_version, kind, {}, status)

    assert failure(obj) == text
    assert failed(obj) is (text != "")


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"observedGeneration": 2}, ""),
        ({"observedGeneration": 3}, ""),
        ({"observedGeneration": 1}, "the status is about generation 1 of 2"),
        ({"conditions": [{"observedGeneration": 2}, {}]}, ""),
        (
            {"conditions": [{"observedGeneration": 2}, {"observedGeneration": 1}]},
            "the status is about generation 1 of 2",
        ),
        ({"observedGeneration": 2, "conditions": [{"observedGeneration": 1}]}, ""),
        ({"observedGeneration": "2"}, "no observedGeneration is reported"),
        ({"observedGeneration": True}, "no observedGeneration is reported"),
        (reporting("Ready"), "no observedGeneration is reported"),
        ({}, "no status yet"),
        (None, "no status yet"),
    ],
)
def test_observed_says_which_generation_was_seen(status: Any, why: str) -> None:
    """The status counts, or else all of its conditions that have a generation."""
    obj = make("example.com/v1", "Widget", {}, status)

    assert observed.explain(obj) == why
    assert observed(obj) is (why == "")
