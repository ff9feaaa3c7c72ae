//! Runs Memcached servers: a Deployment for each Memcached object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::memcached::{Memcached, MemcachedStatus};

const OPERATOR: &str = "memcached-operator";
const FINALIZER: &str = "cache.example.com/memcached-operator";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const INVENTORY: &str = "memcached-system";

type Error = finalizer::Error<kube::Error>;

/// Say what to watch: one namespace, or all of them.
pub fn new(client: &Client, namespace: Option<&str>) -> Controller<Memcached> {
    let (memcacheds, deployments) = match namespace {
        Some(name) => (
            Api::namespaced(client.clone(), name),
            Api::<Deployment>::namespaced(client.clone(), name),
        ),
        None => (Api::all(client.clone()), Api::all(client.clone())),
    };
    Controller::new(memcacheds, watcher::Config::default())
        .owns(deployments, watcher::Config::default())
        .shutdown_on_signal()
}

/// Reconcile until told to stop.
pub async fn run(controller: Controller<Memcached>, client: Client) {
    controller
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .for_each(|outcome| async {
            match outcome {
                Ok((memcached, _)) => tracing::info!("reconciled {memcached}"),
                // It is gone, and a change to its Deployment was seen afterwards.
                Err(controller::Error::ObjectNotFound(_)) => {}
                Err(e) => tracing::error!("{e}"),
            }
        })
        .await;
}

async fn reconcile(memcached: Arc<Memcached>, client: Arc<Client>) -> Result<Action, Error> {
    let client = &*client;
    let namespace = memcached.namespace().unwrap_or_default();
    let memcacheds = Api::namespaced(client.clone(), &namespace);
    finalizer(&memcacheds, FINALIZER, memcached, |event| async {
        match event {
            Event::Apply(memcached) => apply(client, &memcached).await?,
            Event::Cleanup(memcached) => clean_up(client, &memcached).await?,
        }
        Ok(Action::await_change())
    })
    .await
}

/// Make the Deployment and the inventory entry what the Memcached asks for, and report
/// how it is.
async fn apply(client: &Client, memcached: &Memcached) -> Result<(), kube::Error> {
    let (namespace, name) = (
        memcached.namespace().unwrap_or_default(),
        memcached.name_any(),
    );
    // Server-side apply changes nothing where nothing differs.
    let ours = PatchParams::apply(OPERATOR).force();
    inventory(client)
        .patch(
            &entry_name(memcached),
            &ours,
            &Patch::Apply(inventory_entry(memcached)),
        )
        .await?;
    let deployment = Api::<Deployment>::namespaced(client.clone(), &namespace)
        .patch(&name, &ours, &Patch::Apply(deployment_for(memcached)))
        .await?;
    let status = status_for(memcached, &deployment.status.unwrap_or_default());
    if memcached.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": status}));
    let memcacheds = Api::<Memcached>::namespaced(client.clone(), &namespace);
    found(
        memcacheds
            .patch_status(&name, &PatchParams::default(), &patch)
            .await,
    )
}

/// Delete what is there for a Memcached before it is gone itself. Its inventory entry is
/// in another namespace, where no owner reference reaches.
async fn clean_up(client: &Client, memcached: &Memcached) -> Result<(), kube::Error> {
    let (namespace, name) = (
        memcached.namespace().unwrap_or_default(),
        memcached.name_any(),
    );
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
    let background = DeleteParams::background();
    found(deployments.delete(&name, &background).await)?;
    found(
        inventory(client)
            .delete(&entry_name(memcached), &background)
            .await,
    )
}

/// Take it for done where the object is gone.
fn found<T>(outcome: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

fn inventory(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), INVENTORY)
}

fn entry_name(memcached: &Memcached) -> String {
    format!(
        "{}.{}",
        memcached.namespace().unwrap_or_default(),
        memcached.name_any()
    )
}

/// Say how much a Memcached stores in all.
fn inventory_entry(memcached: &Memcached) -> Value {
    let megabytes = memcached.spec.size * memcached.spec.memory;
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": entry_name(memcached),
            "labels": {MANAGED_BY: OPERATOR},
        },
        "data": {"megabytes": megabytes.to_string()},
    })
}

fn deployment_for(memcached: &Memcached) -> Value {
    let servers = labels_of(memcached);
    let mut labels = servers.clone();
    labels.insert(MANAGED_BY, OPERATOR.into());
    let server = json!({
        "name": "memcached",
        "image": memcached.spec.image,
        "args": [format!("--memory-limit={}", memcached.spec.memory)],
        "ports": [{"name": "memcached", "containerPort": 11211}],
        "readinessProbe": {"tcpSocket": {"port": "memcached"}},
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": memcached.name_any(),
            "labels": labels,
            "ownerReferences": [memcached.controller_owner_ref(&())],
        },
        "spec": {
            "replicas": memcached.spec.size,
            "selector": {"matchLabels": servers},
            "template": {
                "metadata": {"labels": servers},
                "spec": {"containers": [server]},
            },
        },
    })
}

/// Return the status of a Memcached whose Deployment has that status.
fn status_for(memcached: &Memcached, deployment: &DeploymentStatus) -> MemcachedStatus {
    let size = memcached.spec.size;
    let ready = deployment.ready_replicas.unwrap_or_default();
    let (status, reason) = if ready >= size {
        ("True", "ServersReady")
    } else {
        ("False", "ServersNotReady")
    };
    let before = memcached
        .status
        .iter()
        .flat_map(|status| &status.conditions);
    let since = before
        .filter(|condition| condition.type_ == "Available" && condition.status == status)
        .map(|condition| condition.last_transition_time.clone())
        .next();
    let labels: Vec<_> = labels_of(memcached)
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    MemcachedStatus {
        replicas: deployment.replicas.unwrap_or_default(),
        ready_replicas: ready,
        selector: labels.join(","),
        conditions: vec![Condition {
            type_: "Available".into(),
            status: status.into(),
            reason: reason.into(),
            message: format!("{ready} of {size} servers are ready"),
            observed_generation: memcached.metadata.generation,
            last_transition_time: since.unwrap_or_else(|| Time(Timestamp::now())),
        }],
    }
}

fn labels_of(memcached: &Memcached) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name", "memcached".into()),
        ("app.kubernetes.io/instance", memcached.name_any()),
    ])
}
