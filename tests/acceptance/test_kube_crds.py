"""The ini value kube_crds: CRDs that are there before the first test, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .conftest import CRD

if TYPE_CHECKING:
    from .conftest import Project

CREATE = """\
def test_widget(kube):
    kube.create({"apiVersion": "example.com/v1", "kind": "Widget",
                 "metadata": {"name": "w"}, "spec": {"size": 1}})
    assert [w.name for w in kube.list("widgets")] == ["w"]
"""


@pytest.mark.parametrize("provider", ["envtest", "kwok"])
def test_custom_resource_can_be_created_in_the_first_test(
    project: Project, provider: str
) -> None:
    """Installed means that an object can be created and listed at once."""
    project.test(CREATE)

    result = project.run(f"--kube={provider}", "--durations=1", "-vv")

    result.assert_outcomes(passed=1)


def test_marker_adds_crds_of_one_test(project: Project) -> None:
    """Paths in the marker are relative to the test's file."""
    project.ini()
    project.test(f"import pytest\n\n@pytest.mark.kube(crds=['crds'])\n{CREATE}")

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_crd_of_hundreds_of_kilobytes_is_installed(project: Project) -> None:
    """Client-side apply stops at 256 KiB; we do not use it."""
    lots = "\n".join(
        f"                field{i}: {{type: string, description: {'x' * 100}}}"
        for i in range(4000)
    )
    big = CRD.replace(
        "            properties: {size: {type: integer, minimum: 0}}",
        f"            properties:\n                size: {{type: integer}}\n{lots}",
    )
    assert len(big) > 500_000
    project.write("crds/widgets.yaml", big)
    project.test(CREATE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_missing_file_is_a_usage_error(project: Project) -> None:
    """The ini file, the path it was resolved to, and what it is relative to."""
    project.ini('kube_crds = ["config/crd"]')
    project.test(CREATE)

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: kube_crds in */pyproject.toml: */config/crd does not exist; "
            "paths are relative to that file"
        ]
    )


def test_file_that_holds_something_else_is_refused(project: Project) -> None:
    """What it is, and where it belongs."""
    project.write(
        "crds/more.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    )
    project.test(CREATE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *crds*ConfigMap*kube_manifests*"])


def test_invalid_schema_is_told_in_the_api_servers_words(project: Project) -> None:
    """The file, the CRD, and the field that is wrong."""
    project.write("crds/widgets.yaml", CRD.replace("type: integer", "type: number_"))
    project.test(CREATE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *ManifestError: *crds: the API server refuses CRD widgets.example.com: "
            '*Unsupported value: "number_"*'
        ]
    )


def test_unknown_field_in_a_crd_is_refused(project: Project) -> None:
    """A typo in a CRD is not pruned either."""
    project.write("crds/widgets.yaml", CRD.replace("scope: Namespaced", "scopes: X"))
    project.test(CREATE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['E *unknown field "spec.scopes"*'])


def test_same_crd_twice_with_other_content_is_refused(project: Project) -> None:
    """Two truths about one kind: the user has to choose."""
    project.write("crds/other.yaml", CRD.replace("minimum: 0", "minimum: 1"))
    project.test(CREATE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["E *CRD widgets.example.com stands in two files with different content*"]
    )


def test_crd_that_is_installed_already_with_other_content_is_refused(
    project: Project,
) -> None:
    """A later test that brings another version of it does not get it silently."""
    other = CRD.replace("minimum: 0", "minimum: 1")
    project.write("other/widgets.yaml", other)
    marked = CREATE.replace("test_widget", "test_other")
    project.test(
        f"{CREATE}\nimport pytest\n\n@pytest.mark.kube(crds=['other'])\n{marked}"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *CRD widgets.example.com from */other is installed already, with other "
            "content; *"
        ]
    )


def test_crd_whose_names_are_taken_is_refused(project: Project) -> None:
    """Two kinds cannot share a plural in one group; the API server says which."""
    twin = CRD.replace("name: widgets.example.com", "name: gadgets.example.com")
    twin = twin.replace("plural: widgets", "plural: gadgets")
    project.write("crds/zz-twin.yaml", twin)
    project.test(CREATE)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ['E *CRD *.example.com is not accepted: *"Widget*" is already in use*']
    )
