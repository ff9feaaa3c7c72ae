"""The option --kube: which cluster, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kube import profiles

if TYPE_CHECKING:
    from .conftest import Project

ONE_TEST = """\
def test_namespace_exists(kube):
    assert kube.get(f"namespace/{kube.namespace}")["status"]["phase"] == "Active"
"""


def test_without_it_tests_are_skipped_and_the_summary_says_how_to_run_them(
    project: Project,
) -> None:
    """Nothing is started unless it was asked for."""
    project.test(ONE_TEST)

    result = project.run()

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["kube: 1 test needs a cluster; run pytest --kube=kwok"]
    )


def test_header_and_summary_tell_provider_version_and_start_time(
    project: Project,
) -> None:
    """What the tests ran on stands at the top, after the collection, and at the end."""
    project.test(ONE_TEST)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [
            r"kube: envtest, Kubernetes 1\.36\.3",
            r"kube: envtest cluster, Kubernetes v1\.36\.3, ready in \d+\.\d s",
            r"kube: envtest cluster, Kubernetes v1\.36\.3, ready in \d+\.\d s; 1 test",
        ]
    )


def test_nothing_is_started_when_no_test_needs_it(project: Project) -> None:
    """A run of other tests costs no control plane, even with the option."""
    project.test("def test_other(): pass")

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*ready in*")


def test_collect_only_starts_nothing(project: Project) -> None:
    """Listing tests is free."""
    project.test(ONE_TEST)

    result = project.run("--kube=envtest", "--collect-only")

    result.stdout.no_fnmatch_line("*ready in*")
    assert result.ret == 0


def test_unknown_name_lists_providers_and_profiles(project: Project) -> None:
    """A misspelt name is a usage error with everything that can be meant."""
    project.write("clusters/big.yaml", "provider: kwok\nnodes: 100\n")
    project.test(ONE_TEST)

    result = project.run("--kube=kwock")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: --kube=kwock: no such provider or profile; did you mean kwok?",
            "  providers  envtest, existing, kind, kwok",
            "  profiles   big (*clusters/NAME.yaml)",
        ]
    )


def test_profile_of_that_name_is_used(project: Project) -> None:
    """clusters/NAME.yaml says what the cluster is."""
    project.write("clusters/tiny.yaml", "provider: envtest\n")
    project.test(ONE_TEST)

    result = project.run("--kube=tiny")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["kube: envtest (profile tiny), Kubernetes 1.36.3"])


def test_wrong_profile_is_a_usage_error_with_file_and_line(project: Project) -> None:
    """A typo in a profile is found before anything starts."""
    project.write("clusters/tiny.yaml", "provider: envtest\nnode: 3\n")
    project.test(ONE_TEST)

    result = project.run("--kube=tiny")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: */clusters/tiny.yaml:2: unknown key 'node' in the profile; did you "
            "mean 'nodes'? Known keys: provider, version, nodes, *"
        ]
    )


@pytest.mark.parametrize("name", ["envtest", "existing", "kind", "kwok"])
def test_profiles_of_this_repository_are_right(name: str) -> None:
    """What clusters/ defines is what --kube=NAME means for us."""
    folder = Path(__file__).parents[2] / "clusters"

    assert profiles.find(name, folder).provider == name


def test_ini_value_stands_in_for_the_option(project: Project) -> None:
    """A project can test against a cluster by default."""
    project.ini('kube = "envtest"')
    project.test(ONE_TEST)

    result = project.run()

    result.assert_outcomes(passed=1)


def test_environment_beats_ini_and_command_line_beats_both(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest wins: command line, environment, ini."""
    project.ini('kube = "nothing-of-the-kind"')
    project.test(ONE_TEST)
    monkeypatch.setenv("PYTEST_KUBE", "neither-this")

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)
    assert "neither-this" in project.run().stderr.str()


def test_workers_of_xdist_have_a_cluster_each(project: Project) -> None:
    """Tests run in parallel, in worker processes that do not share anything."""
    project.test(ONE_TEST + ONE_TEST.replace("test_namespace", "test_other_namespace"))

    result = project.run("--kube=envtest", "-n2")

    result.assert_outcomes(passed=2)
