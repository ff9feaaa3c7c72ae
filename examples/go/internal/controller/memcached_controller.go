// Package controller runs Memcached servers: a Deployment for each Memcached object.
package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	cachev1alpha1 "example.com/memcached-operator/api/v1alpha1"
)

const (
	// Operator is what this operator calls itself in what it makes.
	Operator = "memcached-operator"
	// Namespace is the operator's own; the inventory is there.
	Namespace = "memcached-system"

	finalizer = "cache.example.com/" + Operator
	managedBy = "app.kubernetes.io/managed-by"
)

// MemcachedReconciler makes of each Memcached what it asks for.
type MemcachedReconciler struct {
	client.Client
}

// SetupWithManager tells the manager what to watch.
func (r *MemcachedReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&cachev1alpha1.Memcached{}).
		Owns(&appsv1.Deployment{}).
		Complete(r)
}

// Reconcile makes the Deployment and the inventory entry what the Memcached asks
// for, and reports how it is.
func (r *MemcachedReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	memcached := &cachev1alpha1.Memcached{}
	if err := r.Get(ctx, req.NamespacedName, memcached); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !memcached.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(r.finalize(ctx, memcached))
	}
	if err := r.setFinalizer(ctx, memcached, controllerutil.AddFinalizer); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := r.apply(ctx, inventoryEntry(memcached)); err != nil {
		return ctrl.Result{}, fmt.Errorf("apply the inventory entry: %w", err)
	}
	deployment := deploymentFor(memcached)
	if err := r.apply(ctx, deployment); err != nil {
		return ctrl.Result{}, fmt.Errorf("apply the Deployment: %w", err)
	}
	// The answer of the API server is in what was applied.
	err := r.report(ctx, memcached, statusFor(memcached, deployment.Status))
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// finalize deletes what is there for a Memcached before it is gone itself. Its
// inventory entry is in another namespace, where no owner reference reaches.
func (r *MemcachedReconciler) finalize(ctx context.Context, memcached *cachev1alpha1.Memcached) error {
	if !controllerutil.ContainsFinalizer(memcached, finalizer) {
		return nil
	}
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = memcached.Namespace, memcached.Name
	entry := &corev1.ConfigMap{}
	entry.Namespace, entry.Name = Namespace, entryName(memcached)
	for _, obj := range []client.Object{deployment, entry} {
		if err := client.IgnoreNotFound(r.Delete(ctx, obj)); err != nil {
			return err
		}
	}
	return r.setFinalizer(ctx, memcached, controllerutil.RemoveFinalizer)
}

// setFinalizer adds or removes the finalizer, unless that is done already.
func (r *MemcachedReconciler) setFinalizer(
	ctx context.Context,
	memcached *cachev1alpha1.Memcached,
	change func(client.Object, string) bool,
) error {
	before := memcached.DeepCopy()
	if !change(memcached, finalizer) {
		return nil
	}
	// The patch replaces the list, which others may have added to meanwhile.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return r.Patch(ctx, memcached, patch)
}

// apply writes by server-side apply, which changes nothing where nothing differs.
func (r *MemcachedReconciler) apply(ctx context.Context, obj runtime.ApplyConfiguration) error {
	return r.Apply(ctx, obj, client.FieldOwner(Operator), client.ForceOwnership)
}

// report writes the status if it differs.
func (r *MemcachedReconciler) report(
	ctx context.Context,
	memcached *cachev1alpha1.Memcached,
	status cachev1alpha1.MemcachedStatus,
) error {
	if equality.Semantic.DeepEqual(status, memcached.Status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	return r.Status().Patch(ctx, memcached, client.RawPatch(types.MergePatchType, patch))
}

func deploymentFor(memcached *cachev1alpha1.Memcached) *appsv1ac.DeploymentApplyConfiguration {
	owner := metav1ac.OwnerReference().
		WithAPIVersion(cachev1alpha1.GroupVersion.String()).
		WithKind("Memcached").
		WithName(memcached.Name).
		WithUID(memcached.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
	server := corev1ac.Container().
		WithName("memcached").
		WithImage(memcached.Spec.Image).
		WithArgs(fmt.Sprintf("--memory-limit=%d", memcached.Spec.Memory)).
		WithPorts(corev1ac.ContainerPort().WithName("memcached").WithContainerPort(11211)).
		WithReadinessProbe(corev1ac.Probe().WithTCPSocket(
			corev1ac.TCPSocketAction().WithPort(intstr.FromString("memcached"))))
	servers := labelsOf(memcached)
	return appsv1ac.Deployment(memcached.Name, memcached.Namespace).
		WithLabels(servers).
		WithLabels(map[string]string{managedBy: Operator}).
		WithOwnerReferences(owner).
		WithSpec(appsv1ac.DeploymentSpec().
			WithReplicas(memcached.Spec.Size).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(servers)).
			WithTemplate(corev1ac.PodTemplateSpec().
				WithLabels(servers).
				WithSpec(corev1ac.PodSpec().WithContainers(server))))
}

// inventoryEntry says how much a Memcached stores in all.
func inventoryEntry(memcached *cachev1alpha1.Memcached) *corev1ac.ConfigMapApplyConfiguration {
	megabytes := int(memcached.Spec.Size) * int(memcached.Spec.Memory)
	return corev1ac.ConfigMap(entryName(memcached), Namespace).
		WithLabels(map[string]string{managedBy: Operator}).
		WithData(map[string]string{"megabytes": strconv.Itoa(megabytes)})
}

func entryName(memcached *cachev1alpha1.Memcached) string {
	return memcached.Namespace + "." + memcached.Name
}

// statusFor returns the status of a Memcached whose Deployment has that status.
func statusFor(
	memcached *cachev1alpha1.Memcached,
	deployment *appsv1ac.DeploymentStatusApplyConfiguration,
) cachev1alpha1.MemcachedStatus {
	status := memcached.DeepCopy().Status
	status.Selector = labels.SelectorFromSet(labelsOf(memcached)).String()
	status.Replicas, status.ReadyReplicas = 0, 0
	if deployment != nil {
		status.Replicas = ptr.Deref(deployment.Replicas, 0)
		status.ReadyReplicas = ptr.Deref(deployment.ReadyReplicas, 0)
	}
	available := metav1.Condition{
		Type:               cachev1alpha1.Available,
		Status:             metav1.ConditionFalse,
		Reason:             "ServersNotReady",
		Message:            fmt.Sprintf("%d of %d servers are ready", status.ReadyReplicas, memcached.Spec.Size),
		ObservedGeneration: memcached.Generation,
	}
	if status.ReadyReplicas >= memcached.Spec.Size {
		available.Status, available.Reason = metav1.ConditionTrue, "ServersReady"
	}
	meta.SetStatusCondition(&status.Conditions, available)
	return status
}

func labelsOf(memcached *cachev1alpha1.Memcached) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":     "memcached",
		"app.kubernetes.io/instance": memcached.Name,
	}
}
