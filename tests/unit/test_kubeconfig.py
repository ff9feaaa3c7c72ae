"""Kubeconfig files as we write them, and one context of a user's own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_kube import kubeconfig
from pytest_kube.controlplane.certs import KeyPair
from pytest_kube.errors import ClusterError

USERS = """\
apiVersion: v1
kind: Config
current-context: production
preferences: {}
clusters:
- name: dev
  cluster: {server: "https://dev:6443", certificate-authority: pki/ca.crt}
- name: prod
  cluster: {server: "https://prod:6443"}
users:
- name: jane
  user: {client-certificate: jane.crt, client-key: /keys/jane.key}
- name: robot
  user: {tokenFile: ../token}
- name: admin
  user: {token: secret}
contexts:
- name: staging
  context: {cluster: dev, user: jane, namespace: team}
- name: robot
  context: {cluster: dev, user: robot}
- name: production
  context: {cluster: prod, user: admin}
"""


def token(payload: bytes) -> str:
    """Return a token with that in its middle."""
    middle = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    return f"head.{middle}.signature"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        *((token(b'{"jti": "%s"}' % (b"x" * n)), f"JTI={'x' * n}") for n in range(4)),
        (token(b"{}"), ""),
        (token(b"[]"), ""),
        (token(b"\xff"), ""),
        ("opaque", ""),
        ("a.b", ""),
    ],
)
def test_token_has_the_name_that_audit_logs_give_it(
    source: Path, token: str, expected: str
) -> None:
    """Whatever its length; other kinds of tokens have none."""
    copy = kubeconfig.with_token(source, token, source.with_name("robot"))

    assert kubeconfig.credential(copy) == expected


def test_user_without_a_token_has_no_credential_of_a_name(source: Path) -> None:
    """A certificate is its user's own."""
    jane = source.with_name("jane")
    kubeconfig.save(jane, kubeconfig.narrow([source], "staging"))

    assert kubeconfig.credential(jane) == ""


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A user's kubeconfig file with several contexts."""
    path = tmp_path / "home" / "config"
    path.parent.mkdir()
    path.write_text(USERS, "utf-8")
    return path


def selected(source: Path, context: str) -> dict[str, Any]:
    """Return the content of a copy with one context."""
    return kubeconfig.narrow([source], context)


def test_written_file_is_complete_and_private(tmp_path: Path) -> None:
    """One cluster, one user, everything inline, for its owner only."""
    pair = KeyPair(b"certificate", b"key")

    path = kubeconfig.write(
        tmp_path / "new" / "jane.json",
        server="https://127.0.0.1:6443",
        ca=b"authority",
        user="jane",
        pair=pair,
    )

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    assert mode(path) == 0o600
    assert yaml.safe_load(path.read_text("utf-8")) == {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pytest-kube",
        "clusters": [
            {
                "name": "pytest-kube",
                "cluster": {
                    "server": "https://127.0.0.1:6443",
                    "certificate-authority-data": encoded(b"authority"),
                },
            }
        ],
        "users": [
            {
                "name": "jane",
                "user": {
                    "client-certificate-data": encoded(b"certificate"),
                    "client-key-data": encoded(b"key"),
                },
            }
        ],
        "contexts": [
            {
                "name": "pytest-kube",
                "context": {"cluster": "pytest-kube", "user": "jane"},
            }
        ],
    }


def test_file_that_others_could_read_becomes_private(
    source: Path, tmp_path: Path
) -> None:
    """Credentials never go into a file with the permissions it happened to have."""
    target = tmp_path / "there"
    target.write_text("a long text that was there before" * 100)
    target.chmod(0o644)

    kubeconfig.save(target, kubeconfig.narrow([source], "production"))

    assert mode(target) == 0o600
    assert json.loads(target.read_text("utf-8"))["current-context"] == "production"


def test_selected_context_is_the_only_one(source: Path) -> None:
    """No test can reach another cluster of the user's by mistake."""
    found = selected(source, "staging")

    assert found["current-context"] == "staging"
    assert [c["name"] for c in found["contexts"]] == ["staging"]
    assert [c["name"] for c in found["clusters"]] == ["dev"]
    assert [u["name"] for u in found["users"]] == ["jane"]
    assert "secret" not in json.dumps(found)


def test_relative_paths_are_made_absolute(source: Path) -> None:
    """Files beside the user's kubeconfig are found from wherever the copy is."""
    home = source.parent

    found = selected(source, "staging")
    robot = selected(source, "robot")

    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    assert cluster["certificate-authority"] == str(home / "pki/ca.crt")
    assert user == {
        "client-certificate": str(home / "jane.crt"),
        "client-key": "/keys/jane.key",
    }
    token = Path(robot["users"][0]["user"]["tokenFile"])
    assert token.resolve() == home.parent / "token"


def test_users_file_stays_as_it_was(source: Path) -> None:
    """Selecting a context switches nothing for anybody else."""
    selected(source, "staging")

    assert source.read_text("utf-8") == USERS


def test_unknown_context_lists_those_that_exist(source: Path) -> None:
    """The error of a misspelt name shows the right ones."""
    with pytest.raises(ClusterError) as caught:
        selected(source, "stagin")

    assert str(caught.value) == (
        f"kubeconfig {source}: no context 'stagin'; did you mean staging? There are: staging, robot, "
        "production"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("contexts:\n", "no context 'staging'; there are: none"),
        ("just text", "not a kubeconfig"),
        ("", "not a kubeconfig"),
        ("a: [1", "not YAML: while parsing a flow sequence"),
        ("contexts:\n- name: staging\n", "no cluster ''; there are: none"),
        (
            "contexts:\n- name: staging\n  context: {cluster: gone, user: me}\n",
            "no cluster 'gone'; there are: none",
        ),
        (
            (
                "contexts:\n- name: staging\n  context: {cluster: c, user: gone}\n"
                "clusters:\n- name: c\n  cluster: {server: x}\n"
            ),
            "no user 'gone'; there are: none",
        ),
    ],
)
def test_broken_file_is_named(source: Path, text: str, expected: str) -> None:
    """Whatever is wrong with the file, its path stands in the error."""
    source.write_text(text)

    with pytest.raises(ClusterError) as caught:
        selected(source, "staging")

    assert str(caught.value).startswith(f"kubeconfig {source}: {expected}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The path that was looked at stands in the error."""
    path = tmp_path / "nowhere"

    with pytest.raises(ClusterError) as caught:
        kubeconfig.narrow([path], "staging")

    assert str(caught.value) == f"kubeconfig {path}: No such file or directory"
