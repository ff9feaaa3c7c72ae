"""What envtest's and setup-envtest's variables mean, read as those read them."""

from __future__ import annotations

import pytest

from pytest_kube import kubebuilder
from pytest_kube.errors import SettingsError


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("TRUE", True), ("True", True)]
    + [(no, False) for no in ("", "1", "yes", "false", " true")],
)
def test_existing_cluster_is_used_for_true_in_any_case_only(
    value: str,
    expected: object,
) -> None:
    """As envtest does; what others take for true it does not."""
    assert kubebuilder.uses_existing({"USE_EXISTING_CLUSTER": value}) is expected


def test_variables_that_are_not_set_ask_for_nothing() -> None:
    """The usual case."""
    assert not kubebuilder.uses_existing({})
    assert not kubebuilder.is_installed_only({})
    assert kubebuilder.kubernetes_version({}) == ("", "")
    assert kubebuilder.start_timeout({}) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("60s", 60.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1.5m", 90.0),
        (".5s", 0.5),
        ("2h", 7200.0),
        ("7\u00b5s", 7e-6),
        ("0", None),
        ("0s", None),
        ("", None),
    ],
)
def test_durations_are_read_as_go_reads_them(
    value: str, expected: float | None
) -> None:
    """Zero is the default, for envtest, too."""
    environ = {"KUBEBUILDER_CONTROLPLANE_START_TIMEOUT": value}

    assert kubebuilder.start_timeout(environ) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["60", "1m30", "s", "-5s", "1 m", "soon", "."])
def test_wrong_duration_says_what_is_expected(value: str) -> None:
    """A number alone is the usual mistake."""
    environ = {"KUBEBUILDER_CONTROLPLANE_START_TIMEOUT": value}

    with pytest.raises(SettingsError) as error:
        kubebuilder.start_timeout(environ)

    assert str(error.value) == (
        f"KUBEBUILDER_CONTROLPLANE_START_TIMEOUT={value}: no duration as Go writes it; "
        "give numbers with units, such as 60s, 1m30s or 500ms"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.35", "1.35"),
        ("1.35.2", "1.35.2"),
        ("1.35.x", "1.35"),
        ("1.35.*!", "1.35"),
        ("1.35!", "1.35"),
        ("latest", "latest"),
    ],
)
def test_version_of_the_makefile_is_understood(value: str, expected: str) -> None:
    """In the forms that setup-envtest takes, of which one version is meant."""
    version, by = kubebuilder.kubernetes_version({"ENVTEST_K8S_VERSION": value})

    assert version == expected
    assert by == f"ENVTEST_K8S_VERSION={value}"


@pytest.mark.parametrize("value", ["<1.36", "~1.35.1", "latest-on-disk", "newest"])
def test_range_of_versions_is_an_error_with_three_ways_out(value: str) -> None:
    """Which one it is, only setup-envtest knows."""
    with pytest.raises(SettingsError) as error:
        kubebuilder.kubernetes_version({"ENVTEST_K8S_VERSION": value})

    assert str(error.value) == (
        f"ENVTEST_K8S_VERSION={value}: give a version, such as 1.36 or 1.36.3; or let "
        "setup-envtest choose, and point KUBEBUILDER_ASSETS at what it prints; or name "
        "one by --kube-version"
    )


@pytest.mark.parametrize(
    ("assets", "expected"),
    [
        ("/repo/bin/k8s/1.35.0-linux-amd64", "1.35.0"),
        ("bin/k8s/1.35.0-darwin-arm64/", "1.35.0"),
        ("/usr/local/kubebuilder/bin", ""),
    ],
)
def test_folder_of_the_programs_says_their_version(assets: str, expected: str) -> None:
    """Where the programs are given, a range in the Makefile does no harm."""
    environ = {"KUBEBUILDER_ASSETS": assets, "ENVTEST_K8S_VERSION": "~1.30"}

    assert kubebuilder.kubernetes_version(environ)[0] == expected


@pytest.mark.parametrize("value", ["1", "true", "false"])
def test_any_value_means_that_nothing_is_downloaded(value: str) -> None:
    """Even false, for setup-envtest."""
    assert kubebuilder.is_installed_only({"ENVTEST_INSTALLED_ONLY": value})
