"""A controller on the official client: puts each Greeting into a ConfigMap."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import urllib3
from kubernetes.client import ApiException, CoreV1Api, CustomObjectsApi
from kubernetes.config import new_client_from_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

GREETINGS = {"group": "example.com", "version": "v1", "plural": "greetings"}
APPLY = {
    "field_manager": "greeter",
    "force": True,
    "_content_type": "application/apply-patch+yaml",
}


def run(
    stop: threading.Event,
    kubeconfig: str | None,
    namespace: str,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Greet in a namespace until *stop* is set; call *ready* when it is watched."""
    with new_client_from_config(kubeconfig) as client:
        objects = CustomObjectsApi(client)
        while not stop.is_set():
            greetings = objects.list_namespaced_custom_object(
                **GREETINGS, namespace=namespace
            )
            for greeting in greetings["items"]:
                reconcile(client, greeting)
            response = objects.list_namespaced_custom_object(
                **GREETINGS,
                namespace=namespace,
                resource_version=greetings["metadata"]["resourceVersion"],
                watch=True,
                _preload_content=False,
            )
            ready()
            for event in events(response, stop):
                if event["type"] == "ERROR":  # too old to go on: list again
                    break
                if event["type"] != "DELETED":
                    reconcile(client, event["object"])


def events(
    response: urllib3.HTTPResponse, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    """Yield the events of a watch until it ends, or *stop* is set."""

    def end() -> None:
        stop.wait()
        # An error tells that it has ended by itself.
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            response.shutdown()

    # The loop below blocks for as long as nothing happens.
    threading.Thread(target=end, daemon=True).start()
    # A watch that is cut off is no error either: the next one goes on.
    with response, contextlib.suppress(urllib3.exceptions.HTTPError):
        for line in response:
            yield json.loads(line)


def reconcile(client: Any, greeting: Mapping[str, Any]) -> None:
    """Make the ConfigMap what a Greeting asks for, and report it."""
    name, namespace = (greeting["metadata"][k] for k in ("name", "namespace"))
    body = config_map_for(greeting)
    try:
        CoreV1Api(client).patch_namespaced_config_map(name, namespace, body, **APPLY)
        CustomObjectsApi(client).patch_namespaced_custom_object_status(
            **GREETINGS, namespace=namespace, name=name, body=status_for(greeting)
        )
    except ApiException as e:
        if e.status != 404:  # deleted meanwhile
            raise


def config_map_for(greeting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ConfigMap of a Greeting."""
    metadata = greeting["metadata"]
    owner = {
        "apiVersion": greeting["apiVersion"],
        "kind": greeting["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": metadata["name"], "ownerReferences": [owner]},
        "data": {"text": text_of(greeting)},
    }


def status_for(greeting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of a Greeting whose ConfigMap exists."""
    generation = greeting["metadata"]["generation"]
    return {
        "status": {"text": text_of(greeting), "observedGeneration": generation},
    }


def text_of(greeting: Mapping[str, Any]) -> str:
    """Return what a Greeting says."""
    return f"{greeting['spec']['words']}, {greeting['spec']['to']}!"
