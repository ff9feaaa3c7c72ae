"""Which cluster a context means, and from which ones tests keep away."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import contexts
from pytest_kube.errors import ClusterError, SettingsError
from pytest_kube.profiles import Profile
from pytest_kube.settings import REFUSE, Settings

if TYPE_CHECKING:
    from pathlib import Path


def write(
    path: Path,
    name: str = "staging",
    *,
    cluster: str = "c",
    server: str = "https://10.0.0.1:6443",
    **context: str,
) -> Path:
    """Write a kubeconfig with one context."""
    content: dict[str, Any] = {
        "contexts": [{"name": name, "context": {"cluster": cluster, "user": "jane"}}],
        "clusters": [{"name": cluster, "cluster": {"server": server}}],
        "users": [{"name": "jane", "user": {}}],
    }
    content["contexts"][0]["context"] |= context
    path.write_text(json.dumps(content))
    return path


def chosen(
    file: Path | str, name: str = "staging", refuse: tuple[str, ...] = REFUSE
) -> contexts.Context:
    """Return the context that the options name."""
    profile = Profile("existing", "existing", context=name, kubeconfig=str(file))
    return contexts.chosen(Settings(profile, refuse=refuse))


def refusal(file: Path | str, name: str = "staging", **how: Any) -> str:
    """Return why a context is not used, with the folder left out."""
    with pytest.raises((SettingsError, ClusterError)) as caught:
        chosen(file, name, **how)
    return str(caught.value).replace(str(file or "FILE"), "FILE")


def test_context_says_where_and_who(tmp_path: Path) -> None:
    """Its line at the top of the run, its namespace, and kubectl's words for it."""
    file = write(tmp_path / "my config", namespace="team")

    context = chosen(file)

    assert str(context) == "context staging: https://10.0.0.1:6443 as jane"
    assert context.namespace == "team"
    assert context.kubectl == f"kubectl '--kubeconfig={file}' --context=staging"


def test_namespace_is_default_unless_the_context_says_it(tmp_path: Path) -> None:
    """As for kubectl."""
    assert chosen(write(tmp_path / "config")).namespace == "default"


@pytest.mark.parametrize(
    "name",
    [
        *("prod", "PROD", "eu-prod", "prod-eu-1", "prod1", "eu_production", "live"),
        *("arn:aws:eks:eu-west-1:1:cluster/prod", "admin@prod.example.com", "live.eu"),
    ],
)
def test_production_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    """A word is enough, and a number behind it does not matter."""
    text = refusal(write(tmp_path / "config", name), name)

    assert text.startswith(f"--kube-context={name}: tests keep away from it, for ")
    assert f" of kube_refuse matches the name of its context, {name}\n" in text


@pytest.mark.parametrize(
    "name",
    [
        *("staging", "product-team", "non-prod", "nonprod", "pre-prod", "preprod"),
        *("delivery", "reproduction", "kind-live2ls", "alive", "non_production"),
    ],
)
def test_other_names_are_not_refused(tmp_path: Path, name: str) -> None:
    """What only looks like it, and what says that it is not."""
    assert chosen(write(tmp_path / "config", name), name).name == name


@pytest.mark.parametrize(
    ("how", "what"),
    [
        (
            {"cluster": "prod-eu"},
            "'prod' of kube_refuse matches the name of its cluster",
        ),
        (
            {"server": "https://api.live.example.com:6443"},
            "'live' of kube_refuse matches the name of its server, api.live.example.com",
        ),
    ],
)
def test_harmless_context_of_production_is_refused(
    tmp_path: Path, how: dict[str, str], what: str
) -> None:
    """The context may be named as its user likes; cluster and server tell."""
    text = refusal(write(tmp_path / "config", **how))

    assert what in text


def test_patterns_are_the_users_to_choose(tmp_path: Path) -> None:
    """With wildcards, for the whole name or a word of it; none refuse nothing."""
    file = write(tmp_path / "config", "prod", server="https://k8s.corp.example:6443")

    assert "'*.corp.example' of kube" in refusal(
        file, "prod", refuse=("*.corp.example",)
    )
    assert "'p?od' of kube" in refusal(file, "prod", refuse=("p?od",))
    assert chosen(file, "prod", ("live",)).name == "prod"
    assert chosen(file, "prod", ()).name == "prod"


def test_no_kubeconfig_at_all_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files of KUBECONFIG, and what can be given instead."""
    paths = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))

    assert refusal("") == (
        f"--kube=existing: there is no kubeconfig {paths[0]} nor {paths[1]}; give one "
        "by --kube-config=FILE or KUBECONFIG; in a pod, take --kube-context=in-cluster"
    )


def test_named_kubeconfig_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its path."""
    expected = "kubeconfig FILE: No such file or directory"

    assert refusal(tmp_path / "gone") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "kubeconfig FILE: not YAML: "),
        ("[]", "kubeconfig FILE: not a kubeconfig"),
        (
            "contexts: [staging]",
            "kubeconfig FILE: not a kubeconfig: contexts is no list of entries with a "
            "name and a context",
        ),
        (
            "contexts: {staging: {}}",
            "kubeconfig FILE: not a kubeconfig: contexts is no list of entries with a "
            "name and a context",
        ),
        (
            "contexts: [{name: staging, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c}]\nusers: [{name: u}]",
            "context staging: its cluster has no server",
        ),
    ],
)
def test_broken_kubeconfig_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """And what is wrong with it."""
    file = tmp_path / "config"
    file.write_text(text)

    assert refusal(file).startswith(expected)


def test_pods_only_have_the_context_in_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the text says what is looked for."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    assert refusal("", "in-cluster") == (
        "--kube-context=in-cluster is for pods: there, KUBERNETES_SERVICE_HOST and "
        "KUBERNETES_SERVICE_PORT are set, and "
        "/var/run/secrets/kubernetes.io/serviceaccount/token exists"
    )
