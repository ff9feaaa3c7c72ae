"""What is created in the clusters, the same in ours and in the peers'."""

from __future__ import annotations

from typing import Any

GROUP = "bench.example.com"
LABELS = {"app": "web"}
CONTAINERS = [{"name": "main", "image": "none"}]


def config_map(name: str) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": CONTAINERS},
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {**LABELS, "of": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": CONTAINERS},
            },
        },
    }


def crd(number: int) -> dict[str, Any]:
    """Make a CRD like those that controllers bring: a schema, a status, columns."""
    name = f"thing{number}"
    text = {"type": "string"}
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 9},
            "image": {**text, "default": "none"},
            "labels": {"type": "object", "additionalProperties": text},
        },
    }
    status = {
        "type": "object",
        "properties": {"phase": text, "nodes": {"type": "array", "items": text}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{name}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {"kind": name.title(), "plural": f"{name}s", "singular": name},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": spec, "status": status},
                        }
                    },
                }
            ],
        },
    }


def custom(number: int, name: str, **metadata: Any) -> dict[str, Any]:
    """Make an object of the kind that ``crd(number)`` defines."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": f"Thing{number}",
        "metadata": {"name": name, **metadata},
        "spec": {"size": 3},
    }


def of_a_test() -> list[dict[str, Any]]:
    """Make what a test makes: 10 objects with finalizers, a Deployment of 3."""
    finalizers = [f"{GROUP}/finalizer"]
    customs = [custom(0, f"sample-{i}", finalizers=finalizers) for i in range(10)]
    return [*customs, deployment("web", 3)]
