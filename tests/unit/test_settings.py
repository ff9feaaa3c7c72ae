"""What options, environment, ini values and profiles decide, and how mistakes read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kube import profiles
from pytest_kube.errors import SettingsError
from pytest_kube.fixtures import asked_for
from pytest_kube.profiles import NodeGroup, Profile
from pytest_kube.settings import REFUSE, Settings, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def settings_of(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Read the settings of a run in a project with these files and ini lines."""
    names = ("PYTEST_ADDOPTS", "PYTEST_XDIST_TESTRUNUID", "USE_EXISTING_CLUSTER")
    for name in names:
        monkeypatch.delenv(name, raising=False)

    def settings_of(
        *arguments: str, ini: str = "", profile: str | None = None
    ) -> Settings:
        pytester.makeini(f"[pytest]\n{ini}\n")
        if profile is not None:
            write_profile(pytester.path, profile)
        return read(pytester.parseconfig(*arguments))

    return settings_of


def write_profile(folder: Path, text: str, name: str = "big") -> Path:
    """Write clusters/NAME.yaml, and return its path."""
    path = folder / "clusters" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def profile_of(folder: Path, text: str) -> Profile:
    """Return what the text means as the profile 'big'."""
    return profiles.find("big", write_profile(folder, text).parent)


def message_of(folder: Path, text: str) -> str:
    """Return why the text is no profile, with the path of its file left out."""
    path = write_profile(folder, text)

    with pytest.raises(SettingsError) as caught:
        profiles.find("big", path.parent)

    text = str(caught.value).replace(str(path), "big.yaml")
    return text.replace(str(path.parent), "CLUSTERS")


# --- profiles -----------------------------------------------------------------


def test_profile_may_set_every_key(tmp_path: Path) -> None:
    """Keys are written as Kubernetes writes them; values stay text as written."""
    text = """\
provider: kind
version: 1.30
nodes: 3
featureGates: {InPlacePodVerticalScaling: true, Other: false}
runtimeConfig: {batch/v1: false, api/all: "true"}
extraArgs:
  kube-apiserver: {v: 4}
image: kindest/node:v1.36.3
images: [controller:dev, sidecar:dev]
workers: 2
mounts: [{hostPath: ., containerPath: /here, readOnly: true}]
patches: ["kind: ClusterConfiguration"]
context: staging
kubeconfig: kube/config
allowWrites: true
replaceCRDs: true
"""

    profile = profile_of(tmp_path, text)

    assert profile == Profile(
        name="big",
        provider="kind",
        version="1.30",
        nodes=(NodeGroup(count=3),),
        feature_gates={"InPlacePodVerticalScaling": True, "Other": False},
        runtime_config={"batch/v1": "false", "api/all": "true"},
        extra_args={"kube-apiserver": {"v": "4"}},
        image="kindest/node:v1.36.3",
        images=("controller:dev", "sidecar:dev"),
        workers=2,
        mounts=(
            {
                "hostPath": str(tmp_path / "clusters"),
                "containerPath": "/here",
                "readOnly": True,
            },
        ),
        patches=("kind: ClusterConfiguration",),
        context="staging",
        kubeconfig="kube/config",
        allow_writes=True,
        replace_crds=True,
    )


def test_nodes_may_be_groups(tmp_path: Path) -> None:
    """Each group has its own count, names, capacity, labels and taints."""
    text = """\
provider: kwok
nodes:
- count: 2
- name: gpu
  count: 1
  capacity: {cpu: 8, nvidia.com/gpu: "4"}
  labels: {zone: a}
  taints: [{key: gpu, value: "yes", effect: NoSchedule}]
"""

    profile = profile_of(tmp_path, text)

    assert profile.nodes == (
        NodeGroup(count=2),
        NodeGroup(
            count=1,
            name="gpu",
            capacity={"cpu": "8", "nvidia.com/gpu": "4"},
            labels={"zone": "a"},
            taints=({"key": "gpu", "value": "yes", "effect": "NoSchedule"},),
        ),
    )


def test_profile_named_like_a_provider_needs_no_provider_line(tmp_path: Path) -> None:
    """clusters/kwok.yaml changes what --kube=kwok means."""
    path = write_profile(tmp_path, "nodes: 7\n", name="kwok")

    profile = profiles.find("kwok", path.parent)

    assert (profile.provider, profile.nodes) == ("kwok", (NodeGroup(count=7),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "provider: kwok\nnode: 3\n",
            (
                "big.yaml:2: unknown key 'node' in the profile; did you mean 'nodes'? "
                "Known keys: provider, version, nodes, featureGates, runtimeConfig, "
                "extraArgs, image, images, workers, mounts, patches, config, context, "
                "kubeconfig"
            ),
        ),
        (
            "provider: kwok\nnodes:\n- count: 1\n  lables: {}\n",
            (
                "big.yaml:4: unknown key 'lables' in nodes[0]; did you mean 'labels'? "
                "Known keys: count, name, capacity, labels, taints"
            ),
        ),
        (
            "zzz: 1\n",
            (
                "big.yaml:1: unknown key 'zzz' in the profile. Known keys: provider, "
                "version, nodes, featureGates, runtimeConfig, extraArgs, image, images, "
                "workers, mounts, patches, config, context, kubeconfig"
            ),
        ),
        (
            "[a]: 1\n",
            "big.yaml:1: the keys of the profile: expected text, got a list",
        ),
        (
            "extraArgs: {{}: {}}\n",
            "big.yaml:1: the keys of extraArgs: expected text, got a mapping",
        ),
        ("image: x\n\nimage: y\n", "big.yaml:3: 'image' stands twice in the profile"),
        (
            "extraArgs: {}\nextraArgs: {}\n",
            "big.yaml:2: 'extraArgs' stands twice in the profile",
        ),
        (
            "extraArgs:\n  etcd: {}\n  etcd: {}\n",
            "big.yaml:3: 'etcd' stands twice in extraArgs",
        ),
        ("- provider\n", "big.yaml:1: the profile: expected a mapping, got a list"),
        ("kwok\n", "big.yaml:1: the profile: expected a mapping, got 'kwok'"),
        ("provider: [a]\n", "big.yaml:1: provider: expected text, got a list"),
        ("provider:\n", "big.yaml:1: provider: expected text, got nothing"),
        ("version: {a: b}\n", "big.yaml:1: version: expected text, got a mapping"),
        ("image: true\n", "big.yaml:1: image: expected text, got 'true'"),
        (
            "provider: kwok\nnodes: three\n",
            "big.yaml:2: nodes: expected a number, got 'three'",
        ),
        ("nodes: -1\n", "big.yaml:1: nodes: expected a number, got '-1'"),
        ("nodes: 1.5\n", "big.yaml:1: nodes: expected a number, got '1.5'"),
        ("nodes: ²\n", "big.yaml:1: nodes: expected a number, got '²'"),
        ("nodes: {count: 1}\n", "big.yaml:1: nodes: expected a list, got a mapping"),
        ("nodes:\n- 3\n", "big.yaml:2: nodes[0]: expected a mapping, got '3'"),
        (
            "nodes:\n- {name: a}\n- count: [1]\n",
            "big.yaml:3: count: expected a number, got a list",
        ),
        (
            "nodes:\n- count: 1\n- count: 2\n",
            "big.yaml:2: nodes: each group needs a name of its own",
        ),
        (
            "nodes:\n- taints: {key: a}\n",
            "big.yaml:2: taints: expected a list, got a mapping",
        ),
        (
            "nodes:\n- capacity: {cpu: [1]}\n",
            "big.yaml:2: capacity.cpu: expected text, got a list",
        ),
        (
            "featureGates:\n  A: true\n  B: maybe\n",
            "big.yaml:3: featureGates.B: expected true or false, got 'maybe'",
        ),
        (
            "featureGates: [A]\n",
            "big.yaml:1: featureGates: expected a mapping, got a list",
        ),
        (
            "runtimeConfig: {api/all: [1]}\n",
            "big.yaml:1: runtimeConfig.api/all: expected text, got a list",
        ),
        (
            "extraArgs:\n  etcd: debug\n",
            "big.yaml:2: extraArgs.etcd: expected a mapping, got 'debug'",
        ),
        (
            "extraArgs:\n  etcd:\n    v: {}\n",
            "big.yaml:3: extraArgs.etcd.v: expected text, got a mapping",
        ),
        (
            "config: kind.yml\n",
            "big.yaml:1: config: there is no file CLUSTERS/kind.yml",
        ),
        (
            "images: [a.tar]\n",
            "big.yaml:1: images[0]: there is no file CLUSTERS/a.tar",
        ),
        (
            "mounts: [{hostPath: nowhere, containerPath: /a}]\n",
            "big.yaml:1: hostPath: there is no CLUSTERS/nowhere",
        ),
        (
            "mounts: [{hostPath: .}]\n",
            "big.yaml:1: mounts[0]: containerPath is missing",
        ),
        ("images: one\n", "big.yaml:1: images: expected a list, got 'one'"),
        ("images:\n- a\n- {}\n", "big.yaml:3: images[1]: expected text, got a mapping"),
        ("", "big.yaml: empty; it needs at least a line 'provider: kwok'"),
        ("# nothing\n", "big.yaml: empty; it needs at least a line 'provider: kwok'"),
        (
            "provider: kwok\nnodes: [1\n",
            "big.yaml:3: not YAML: expected ',' or ']', but got '<stream end>'",
        ),
        ("provider: kwok\n\tnodes: 1\n", "big.yaml:2: not YAML: "),
        ("nodes: *one\n", "big.yaml:1: not YAML: found undefined alias 'one'"),
        (
            "image: a\n---\nimage: b\n",
            "big.yaml:2: not YAML: but found another document",
        ),
        (
            "provider: minikube\n",
            (
                "big.yaml: provider 'minikube' is unknown; "
                "providers: envtest, existing, kind, kwok"
            ),
        ),
        (
            "image: x\n",
            (
                "big.yaml: provider 'big' is unknown; "
                "providers: envtest, existing, kind, kwok"
            ),
        ),
    ],
)
def test_wrong_profile_names_file_line_and_key(
    tmp_path: Path, text: str, expected: str
) -> None:
    """What is wrong stands with its place and with what is allowed there."""
    message = message_of(tmp_path, text)

    assert message.startswith(expected)


def test_profile_that_is_no_text_is_a_settings_error(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and characters that YAML forbids, end in no traceback."""
    path = write_profile(tmp_path, "")

    for content in (b"image: \xff\n", b"image: a\x07\n"):
        path.write_bytes(content)

        with pytest.raises(SettingsError, match=r"big\.yaml: cannot be read as YAML: "):
            profiles.find("big", path.parent)


def test_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    """A misspelt profile is as easy to find as a misspelt provider."""
    write_profile(tmp_path, "provider: kwok\n", name="staging")

    with pytest.raises(SettingsError) as caught:
        profiles.find("stagin", tmp_path / "clusters")

    assert str(caught.value) == (
        "--kube=stagin: no such provider or profile; did you mean staging?\n"
        "  providers  envtest, existing, kind, kwok\n"
        f"  profiles   staging ({tmp_path}/clusters/NAME.yaml)"
    )


# --- options ------------------------------------------------------------------


def test_defaults(settings_of: Callable[..., Settings]) -> None:
    """What a run with nothing but --kube gets."""
    found = settings_of("--kube=kwok")

    root = found.artifacts_dir.parent.parent
    assert found == Settings(
        profile=Profile(name="kwok", provider="kwok"),
        timeout=10.0,
        artifacts_dir=root / ".pytest-kube/artifacts",
    )


def test_nothing_is_asked_for_by_default(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the option, the variable and the ini value there is no cluster."""
    monkeypatch.delenv("PYTEST_KUBE", raising=False)

    config = pytester.parseconfig()

    assert not asked_for(config)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "--kube-timeout=soon",
            "--kube-timeout=soon: expected seconds above 0, for example 10 or 2.5",
        ),
        ("--kube-timeout=0", "--kube-timeout=0: expected seconds above 0"),
        ("--kube-timeout=-1", "--kube-timeout=-1: expected seconds above 0"),
        ("--kube-timeout=nan", "--kube-timeout=nan: expected seconds above 0"),
        ("--kube-timeout=inf", "--kube-timeout=inf: expected seconds above 0"),
        ("--kube-timeout=", "--kube-timeout=: expected seconds above 0"),
        (
            "--kube-isolation=rollbak",
            "--kube-isolation=rollbak: allowed are rollback, namespace, none",
        ),
        (
            "--kube-isolation=",
            "--kube-isolation=: allowed are rollback, namespace, none",
        ),
        (
            "--kube-artifacts=some",
            "--kube-artifacts=some: allowed are failed, all, none",
        ),
        (
            "--kube-binaries=nowhere",
            (
                "--kube-binaries=nowhere: no such folder (ROOT/nowhere); give the folder "
                "that holds kube-apiserver, etcd and the others, or auto"
            ),
        ),
    ],
)
def test_bad_value_names_option_and_what_is_allowed(
    settings_of: Callable[..., Settings],
    pytester: pytest.Pytester,
    argument: str,
    expected: str,
) -> None:
    """A wrong option is found before anything is started."""
    with pytest.raises(SettingsError) as caught:
        settings_of("--kube=kwok", argument)

    assert str(caught.value).replace(str(pytester.path), "ROOT").startswith(expected)


def test_bad_offline_value_says_what_is_expected(
    settings_of: Callable[..., Settings],
) -> None:
    """The option takes no value, so that only environment and ini can be wrong."""
    with pytest.raises(SettingsError) as caught:
        settings_of("--kube=kwok", ini="kube_offline = perhaps")

    assert str(caught.value) == "kube_offline = perhaps: expected true or false"


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("YES", True), ("1", True), ("off", False)]
)
def test_offline_takes_the_usual_words(
    settings_of: Callable[..., Settings], text: str, *, expected: bool
) -> None:
    """The words that ini files use for true and false."""
    found = settings_of("--kube=kwok", ini=f"kube_offline = {text}")

    assert found.offline is expected


def test_missing_path_names_ini_file_and_value(
    settings_of: Callable[..., Settings], pytester: pytest.Pytester
) -> None:
    """Paths in the ini file are relative to it, and have to exist."""
    with pytest.raises(SettingsError) as caught:
        settings_of("--kube=kwok", ini="kube_crds = config/crd")

    assert str(caught.value).replace(str(pytester.path), "ROOT") == (
        "kube_crds in ROOT/tox.ini: ROOT/config/crd does not exist; paths are "
        "relative to that file"
    )


def test_paths_are_relative_to_the_ini_file(
    settings_of: Callable[..., Settings], pytester: pytest.Pytester
) -> None:
    """Several files and folders stand one after the other, with quotes as in a shell."""
    pytester.mkdir("config")
    pytester.mkdir("other crds")

    found = settings_of("--kube=kwok", ini='kube_crds = config "other crds"')

    assert found.crds == (pytester.path / "config", pytester.path / "other crds")


def test_binaries_folder_is_relative_to_the_root(
    settings_of: Callable[..., Settings], pytester: pytest.Pytester
) -> None:
    """A folder that exists is taken, and auto means to look for the programs."""
    pytester.mkdir("bin")

    assert settings_of("--kube=kwok", "--kube-binaries=bin").binaries == (
        pytester.path / "bin"
    )
    assert settings_of("--kube=kwok", "--kube-binaries=auto").binaries is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"command", "environment", "ini", "profile"}, "1.1"),
        ({"environment", "ini", "profile"}, "1.2"),
        ({"ini", "profile"}, "1.3"),
        ({"profile"}, "1.4"),
        (set(), ""),
    ],
)
def test_command_line_beats_environment_ini_and_profile(
    settings_of: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    given: set[str],
    expected: str,
) -> None:
    """The nearest wins: command line, environment, ini, profile, default."""
    if "environment" in given:
        monkeypatch.setenv("PYTEST_KUBE_VERSION", "1.2")

    found = settings_of(
        "--kube=big",
        *(["--kube-version=1.1"] if "command" in given else []),
        ini="kube_version = 1.3" if "ini" in given else "",
        profile="provider: kwok\n" + ("version: 1.4\n" if "profile" in given else ""),
    )

    assert found.version == expected


def test_context_and_kubeconfig_go_into_the_profile(
    settings_of: Callable[..., Settings],
) -> None:
    """The options of existing clusters win over the profile's keys."""
    found = settings_of(
        "--kube=big",
        "--kube-context=new",
        "--kube-config=mine",
        profile="provider: existing\ncontext: old\nkubeconfig: theirs\n",
    )

    assert (found.profile.context, found.profile.kubeconfig) == ("new", "mine")


@pytest.mark.parametrize(
    ("option", "environment", "profile", "expected"),
    [
        ([], None, "", False),
        ([], None, "allowWrites: true", True),
        ([], "false", "allowWrites: true", False),
        (["--kube-allow-writes"], "false", "", True),
    ],
)
def test_writes_are_allowed_by_whom_is_nearest(
    settings_of: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    *,
    option: list[str],
    environment: str | None,
    profile: str,
    expected: bool,
) -> None:
    """Nobody has allowed them by default."""
    if environment:
        monkeypatch.setenv("PYTEST_KUBE_ALLOW_WRITES", environment)

    found = settings_of(
        "--kube=big", *option, profile=f"provider: existing\n{profile}\n"
    )

    assert found.profile.allow_writes is expected


@pytest.mark.parametrize(
    ("ini", "expected"),
    [
        ("", REFUSE),
        ("kube_refuse = prod *.corp", ("prod", "*.corp")),
        ("kube_refuse =", ()),
    ],
)
def test_refused_names_may_be_chosen(
    settings_of: Callable[..., Settings], ini: str, expected: tuple[str, ...]
) -> None:
    """Also that none are."""
    assert settings_of("--kube=existing", ini=ini).refuse == expected


@pytest.mark.parametrize(
    ("argument", "variable", "ini", "expected"),
    [
        (None, None, "kwok", True),
        (None, "envtest", "", True),
        ("--kube=kwok", "", "", True),
        (None, "", "kwok", False),
        ("--kube=", "envtest", "kwok", False),
    ],
)
def test_first_place_that_names_a_cluster_or_none_decides(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    variable: str | None,
    ini: str,
    *,
    expected: bool,
) -> None:
    """An empty option or variable says: no cluster, whatever the ini file names."""
    pytester.makeini(f"[pytest]\nkube = {ini}\n")
    if variable is None:
        monkeypatch.delenv("PYTEST_KUBE", raising=False)
    else:
        monkeypatch.setenv("PYTEST_KUBE", variable)

    config = pytester.parseconfig(*([argument] if argument else []))

    assert asked_for(config) is expected


def test_isolation_is_the_clusters_best_unless_it_is_asked_for(
    settings_of: Callable[..., Settings],
) -> None:
    """Nobody has to know what which provider can do."""
    assert settings_of("--kube=envtest").isolation is None
    for name in ("rollback", "namespace", "none"):
        option = f"--kube-isolation={name}"
        assert settings_of("--kube=envtest", option).isolation == name
        ini = f"kube_isolation = {name}"
        assert settings_of("--kube=kwok", ini=ini).isolation == name


# --- redaction ----------------------------------------------------------------


def test_values_of_variables_are_hidden_by_name(
    settings_of: Callable[..., Settings],
) -> None:
    """What is not set has no value, as secrets of CI in forks."""
    found = settings_of("--kube=kwok", ini="kube_redact = TOKEN AWS_* ABSENT")

    environ = {"TOKEN": "a", "AWS_KEY": "b", "MY_TOKEN": "c", "aws_x": "d"}
    assert found.redact == ("TOKEN", "AWS_*", "ABSENT")
    assert found.redacted_values(environ) == ["a", "b"]


@pytest.mark.parametrize("name", ["", "TOKEN=hunter2", "MY TOKEN"])
def test_what_is_no_name_of_a_variable_is_an_error(
    settings_of: Callable[..., Settings], name: str
) -> None:
    """A value given in place of a name would stand in the ini file."""
    with pytest.raises(SettingsError) as caught:
        settings_of("--kube=kwok", ini=f'kube_redact = OK "{name}"')

    text = str(caught.value)
    assert text.startswith("kube_redact in ")
    assert text.endswith(
        f": {name!r} is no name of an environment variable; give names, not values: "
        "TOKEN, AWS_*"
    )


@pytest.mark.parametrize(
    ("arguments", "versions"),
    [
        ((), ("1.34", "1.36")),
        (("--kube-version=1.35",), ()),
        (("--kube-version=1.35, 1.33,1.35",), ("1.35", "1.33")),
    ],
)
def test_versions_of_the_ini_file_are_those_without_an_option(
    settings_of: Callable[..., Settings],
    arguments: tuple[str, ...],
    versions: tuple[str, ...],
) -> None:
    """One version is no matrix, and the same one twice is one."""
    settings = settings_of("--kube=kwok", *arguments, ini="kube_versions = 1.34 1.36")

    assert settings.versions == versions
    assert settings.version == (versions or ("1.35",))[0]
