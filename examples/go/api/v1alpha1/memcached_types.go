package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Available is the condition that is True when all servers are ready.
const Available = "Available"

// MemcachedSpec says which servers there are to be.
type MemcachedSpec struct {
	// Size is how many servers there are.
	Size int32 `json:"size"`
	// Memory is how many megabytes each server stores at most.
	Memory int32 `json:"memory,omitempty"`
	// Image is the image of the servers.
	Image string `json:"image,omitempty"`
}

// MemcachedStatus says which servers there are.
type MemcachedStatus struct {
	// Replicas is how many servers exist.
	Replicas int32 `json:"replicas"`
	// ReadyReplicas is how many servers answer.
	ReadyReplicas int32 `json:"readyReplicas"`
	// Selector is the label selector of the servers' pods.
	Selector string `json:"selector,omitempty"`
	// Conditions has one condition: Available.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Memcached is a group of Memcached servers.
type Memcached struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MemcachedSpec   `json:"spec"`
	Status MemcachedStatus `json:"status,omitzero"`
}

// MemcachedList is what the API server lists.
type MemcachedList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Memcached `json:"items"`
}
