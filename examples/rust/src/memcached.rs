//! The kind Memcached of cache.example.com. Its schema, with its defaults and limits,
//! is in config/crd.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Which servers there are to be.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "cache.example.com",
    version = "v1alpha1",
    kind = "Memcached",
    status = "MemcachedStatus",
    schema = "disabled",
    namespaced
)]
pub struct MemcachedSpec {
    /// How many servers there are.
    pub size: i32,
    /// Megabytes that each server stores at most.
    pub memory: i32,
    /// The image of the servers.
    pub image: String,
}

/// Which servers there are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemcachedStatus {
    /// How many servers exist.
    pub replicas: i32,
    /// How many servers answer.
    pub ready_replicas: i32,
    /// The label selector of the servers' pods.
    pub selector: String,
    /// One condition, Available: all servers are ready.
    pub conditions: Vec<Condition>,
}
