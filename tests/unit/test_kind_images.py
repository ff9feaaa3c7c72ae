"""Which node image a version means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_kube.binaries.releases import (
    DEFAULT_VERSION,
    NEWEST_PATCHES,
    NODE_IMAGES,
    minor_version,
)
from pytest_kube.errors import SettingsError
from pytest_kube.providers.kind import node_image


def daemon(*tags: str) -> Any:
    """Return a docker that has images of these tags, and one without any."""
    images = [{"RepoTags": [f"kindest/node:{tag}"]} for tag in tags]
    listed = [*images, {"RepoTags": None}]
    return SimpleNamespace(api=SimpleNamespace(images=lambda: listed))


def test_minor_version_is_the_image_that_was_made_for_our_kind() -> None:
    """By its digest: nobody can change what runs."""
    image = node_image(daemon(), "1.36")

    assert image.startswith("kindest/node:v1.36.4@sha256:")


def test_no_version_is_the_minor_of_the_default() -> None:
    """As for the other providers."""
    image = node_image(daemon(), "")

    assert image.startswith(f"kindest/node:v{minor_version(DEFAULT_VERSION)}.")


def test_image_that_is_there_is_not_pulled_anew() -> None:
    """The newest of the minor version, by number."""
    docker = daemon("v1.36.9", "v1.36.10", "v1.35.11", "v1.36.1-alpine", "latest")

    assert node_image(docker, "1.36") == "kindest/node:v1.36.10"
    docker = daemon("v1.36.3", "v1.36.4", "v1.36.9")
    assert node_image(docker, "v1.36") == "kindest/node:v1.36.4"


def test_full_version_is_that_one() -> None:
    """With its digest where that is known."""
    docker = daemon("v1.36.3")

    assert node_image(docker, "1.36.1") == "kindest/node:v1.36.1"
    assert node_image(docker, "v1.36.4") == NODE_IMAGES["1.36.4"]


def test_version_without_a_node_image_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says for which there are some."""
    monkeypatch.setitem(NEWEST_PATCHES, "1.20", "1.20.15")

    with pytest.raises(SettingsError) as error:
        node_image(daemon(), "1.20")

    assert str(error.value) == (
        "--kube-version=1.20: no node image of kind is known for it, and docker has "
        "none; known are 1.33, 1.34, 1.35, 1.36, 1.37. Name one as 'image' in a profile"
    )
