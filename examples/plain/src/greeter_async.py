"""The same controller on the official client's asynchronous half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greeter import APPLY, GREETINGS, config_map_for, status_for
from kubernetes.aio.client import ApiException, CoreV1Api, CustomObjectsApi
from kubernetes.aio.config import new_client_from_config
from kubernetes.aio.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping


async def run(kubeconfig: str | None, namespace: str) -> None:
    """Greet in a namespace until cancelled."""
    async with await new_client_from_config(kubeconfig) as client, Watch() as watch:
        greetings = CustomObjectsApi(client).list_namespaced_custom_object
        async for event in watch.stream(greetings, **GREETINGS, namespace=namespace):
            if event["type"] != "DELETED":
                await reconcile(client, event["object"])


async def reconcile(client: Any, greeting: Mapping[str, Any]) -> None:
    """Make the ConfigMap what a Greeting asks for, and report it."""
    name, namespace = (greeting["metadata"][k] for k in ("name", "namespace"))
    core, objects = CoreV1Api(client), CustomObjectsApi(client)
    body = config_map_for(greeting)
    try:
        await core.patch_namespaced_config_map(name, namespace, body, **APPLY)
        await objects.patch_namespaced_custom_object_status(
            **GREETINGS, namespace=namespace, name=name, body=status_for(greeting)
        )
    except ApiException as e:
        if e.status != 404:  # deleted meanwhile
            raise
