"""Profiles: cluster definitions, ``clusters/NAME.yaml`` in a user's repository."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_kube.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import yaml


ARCHIVES = (".tar", ".tar.gz", ".tgz")
"""What the names of files with images end in."""


@dataclass(frozen=True)
class NodeGroup:
    """Simulated nodes that are alike.

    Attributes:
        count: How many.
        name: The prefix of their names, which end in ``-0``, ``-1`` and so on.
        capacity: Resource name to quantity, for example ``{"cpu": "8"}``.
        labels: Labels beyond those that every node has.
        taints: Taints as Kubernetes writes them: ``key``, ``value``, ``effect``.
    """

    count: int = 1
    name: str = "node"
    capacity: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Profile:
    """A named cluster definition, ``clusters/NAME.yaml`` in the user's repository.

    Attributes:
        name: Its name, what ``--kube`` was given.
        provider: What creates the cluster.
        version: The Kubernetes version, or an empty string for the default.
        nodes: The simulated nodes (kwok).
        feature_gates: Kubernetes feature gates, for every component.
        runtime_config: API groups or versions to serve or not to serve.
        extra_args: Component name to further command line arguments.
        image: The node image (kind).
        images: Local images that the nodes get, by name or as files (kind).
        workers: How many worker nodes there are, beside the control plane (kind).
        mounts: Folders and files of this machine that every node has, as kind writes
            them: ``hostPath``, ``containerPath``, ``readOnly`` (kind).
        patches: Patches of kubeadm's config, as kind takes them (kind).
        config: A config file of kind's own; its path, from the profile's (kind).
        context: The context of the kubeconfig (existing).
        kubeconfig: The kubeconfig file (existing).
        allow_writes: Whether tests may write (existing).
        replace_crds: Whether CRDs of ``kube_crds`` take the place of those that are
            there with other content, for the run (existing).
    """

    name: str
    provider: str
    version: str = ""
    nodes: tuple[NodeGroup, ...] = (NodeGroup(),)
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    runtime_config: Mapping[str, str] = field(default_factory=dict)
    extra_args: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    image: str = ""
    images: tuple[str, ...] = ()
    workers: int = 0
    mounts: tuple[Mapping[str, Any], ...] = ()
    patches: tuple[str, ...] = ()
    config: str = ""
    context: str = ""
    kubeconfig: str = ""
    allow_writes: bool = False
    replace_crds: bool = False


def providers() -> dict[str, Any]:
    """Return provider names and their entry points, third parties' included."""
    from importlib.metadata import entry_points

    return {e.name: e for e in entry_points(group="pytest_kube.providers")}


def find(name: str, folder: Path) -> Profile:
    """Return the profile of that name in *folder*, or the defaults of a provider.

    Raises:
        SettingsError: There is neither, or the file is wrong; the text says where.
    """
    path = folder / f"{name}.yaml"
    known = providers()
    if path.is_file():
        profile = _read_profile(name, path)
        if profile.provider not in known:
            raise SettingsError(
                f"{path}: provider {profile.provider!r} is unknown; "
                f"providers: {', '.join(sorted(known))}"
            )
        return profile
    if name in known:
        return Profile(name=name, provider=name)
    profiles = sorted(p.stem for p in folder.glob("*.yaml"))
    guess = get_close_matches(name, [*known, *profiles], n=1)
    raise SettingsError(
        f"--kube={name}: no such provider or profile"
        + (f"; did you mean {guess[0]}?" if guess else ".")
        + f"\n  providers  {', '.join(sorted(known))}"
        + f"\n  profiles   {', '.join(profiles) or 'none'} ({folder}/NAME.yaml)"
    )


def _read_profile(name: str, path: Path) -> Profile:
    import yaml

    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise SettingsError(f"{path}:{line}: not YAML: {e.problem}") from e
    except (OSError, UnicodeError, yaml.YAMLError) as e:
        reason = " ".join(str(e).split())
        raise SettingsError(f"{path}: cannot be read as YAML: {reason}") from e
    if root is None:
        raise SettingsError(f"{path}: empty; it needs at least a line 'provider: kwok'")
    reader = _ProfileReader(path)
    values = reader.mapping(
        root,
        "the profile",
        {
            "provider": reader.text,
            "version": reader.text,
            "nodes": reader.nodes,
            "featureGates": reader.map_of(reader.boolean),
            "runtimeConfig": reader.map_of(reader.scalar),
            "extraArgs": reader.map_of(reader.map_of(reader.scalar)),
            "image": reader.text,
            "images": reader.list_of(reader.image),
            "workers": reader.number,
            "mounts": reader.list_of(reader.mount),
            "patches": reader.list_of(reader.text),
            "config": reader.file,
            "context": reader.text,
            "kubeconfig": reader.text,
            "allowWrites": reader.boolean,
            "replaceCRDs": reader.boolean,
        },
    )
    if "provider" not in values:
        values["provider"] = name
    return Profile(name=name, **values)


_SNAKE = {
    "featureGates": "feature_gates",
    "runtimeConfig": "runtime_config",
    "extraArgs": "extra_args",
    "allowWrites": "allow_writes",
    "replaceCRDs": "replace_crds",
}


class _ProfileReader:
    """Turn YAML nodes into values, naming file, line and key where that fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, node: yaml.Node, text: str) -> SettingsError:
        return SettingsError(f"{self.path}:{node.start_mark.line + 1}: {text}")

    def mapping(
        self,
        node: yaml.Node,
        what: str,
        readers: Mapping[str, Callable[[yaml.Node, str], Any]],
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in self._pairs(node, what):
            key = self.scalar(key_node, f"the keys of {what}")
            if key not in readers:
                guess = get_close_matches(key, readers, n=1)
                raise self.fail(
                    key_node,
                    f"unknown key {key!r} in {what}"
                    + (f"; did you mean {guess[0]!r}?" if guess else ".")
                    + f" Known keys: {', '.join(readers)}",
                )
            if _SNAKE.get(key, key) in values:
                raise self.fail(key_node, f"{key!r} stands twice in {what}")
            values[_SNAKE.get(key, key)] = readers[key](value_node, key)
        return values

    def _pairs(self, node: yaml.Node, what: str) -> list[tuple[Any, Any]]:
        if _shape(node) != "mapping":
            raise self.fail(node, f"{what}: expected a mapping, got {_kind(node)}")
        return list(node.value)

    def scalar(self, node: yaml.Node, what: str) -> str:
        if _shape(node) != "scalar":
            raise self.fail(node, f"{what}: expected text, got {_kind(node)}")
        return str(node.value)

    def text(self, node: yaml.Node, what: str) -> str:
        value = self.scalar(node, what)
        # An unquoted 1.30 is the number 1.3 for YAML; here it is a version as written.
        if not value or node.tag.endswith((":null", ":bool")):
            raise self.fail(node, f"{what}: expected text, got {_kind(node)}")
        return value

    def file(self, node: yaml.Node, what: str) -> str:
        path = self.path.parent / self.text(node, what)
        if not path.is_file():
            raise self.fail(node, f"{what}: there is no file {path}")
        return str(path)

    def image(self, node: yaml.Node, what: str) -> str:
        is_file = self.text(node, what).endswith(ARCHIVES)
        return self.file(node, what) if is_file else self.text(node, what)

    def mount(self, node: yaml.Node, what: str) -> dict[str, Any]:
        readers: dict[str, Callable[[yaml.Node, str], Any]] = {
            "hostPath": self.existing,
            "containerPath": self.text,
            "readOnly": self.boolean,
        }
        found = self.mapping(node, what, readers)
        if missing := {"hostPath", "containerPath"} - found.keys():
            raise self.fail(node, f"{what}: {', '.join(sorted(missing))} is missing")
        return found

    def existing(self, node: yaml.Node, what: str) -> str:
        path = self.path.parent / self.text(node, what)
        if not path.exists():
            raise self.fail(node, f"{what}: there is no {path}")
        return str(path.absolute())

    def boolean(self, node: yaml.Node, what: str) -> bool:
        if _shape(node) != "scalar" or node.value not in {"true", "false"}:
            raise self.fail(node, f"{what}: expected true or false, got {_kind(node)}")
        return bool(node.value == "true")

    def number(self, node: yaml.Node, what: str) -> int:
        if _shape(node) != "scalar" or not str(node.value).isdecimal():
            raise self.fail(node, f"{what}: expected a number, got {_kind(node)}")
        return int(node.value)

    def map_of(
        self, read_value: Callable[[yaml.Node, str], Any]
    ) -> Callable[[yaml.Node, str], dict[str, Any]]:
        def read_map(node: yaml.Node, what: str) -> dict[str, Any]:
            values: dict[str, Any] = {}
            for key_node, value_node in self._pairs(node, what):
                key = self.scalar(key_node, f"the keys of {what}")
                if key in values:
                    raise self.fail(key_node, f"{key!r} stands twice in {what}")
                values[key] = read_value(value_node, f"{what}.{key}")
            return values

        return read_map

    def list_of(
        self, read_value: Callable[[yaml.Node, str], Any]
    ) -> Callable[[yaml.Node, str], tuple[Any, ...]]:
        def read_list(node: yaml.Node, what: str) -> tuple[Any, ...]:
            if _shape(node) != "sequence":
                raise self.fail(node, f"{what}: expected a list, got {_kind(node)}")
            return tuple(
                read_value(v, f"{what}[{i}]") for i, v in enumerate(node.value)
            )

        return read_list

    def nodes(self, node: yaml.Node, what: str) -> tuple[NodeGroup, ...]:
        if _shape(node) == "scalar":
            return (NodeGroup(count=self.number(node, what)),)
        groups: tuple[NodeGroup, ...] = self.list_of(self.node_group)(node, what)
        names = [g.name for g in groups]
        if len(set(names)) != len(names):
            raise self.fail(node, f"{what}: each group needs a name of its own")
        return groups

    def node_group(self, node: yaml.Node, what: str) -> NodeGroup:
        readers: dict[str, Callable[[yaml.Node, str], Any]] = {
            "count": self.number,
            "name": self.text,
            "capacity": self.map_of(self.scalar),
            "labels": self.map_of(self.scalar),
            "taints": self.list_of(self.map_of(self.scalar)),
        }
        assert set(readers) == {f.name for f in fields(NodeGroup)}  # noqa: S101
        return NodeGroup(**self.mapping(node, what, readers))


def _shape(node: yaml.Node) -> str:
    return str(node.id)  # type: ignore[attr-defined]  # missing in the type stubs


def _kind(node: yaml.Node) -> str:
    if _shape(node) == "scalar":
        return f"{node.value!r}" if node.value else "nothing"
    return "a list" if _shape(node) == "sequence" else "a mapping"
