"""What is read from files, texts and objects, and what is said when it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kube import kubectl_yaml
from pytest_kube.errors import ManifestError
from pytest_kube.manifests import check_crd, dump, install_order, is_crd, load, read


def config_map(name: str = "x", **fields: Any) -> dict[str, Any]:
    """Return a minimal object."""
    meta = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **fields}


def text(name: str = "x", more: str = "") -> str:
    """Return a minimal manifest."""
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{more}"


def names(objects: list[dict[str, Any]]) -> list[str]:
    """Return what the objects are called."""
    return [obj["metadata"]["name"] for obj in objects]


def value(scalar: str) -> Any:
    """Return what the scalar is read as."""
    return load(text(more=f"data:\n  v: {scalar}\n"))[0]["data"]["v"]


def test_a_file_gives_all_its_documents(tmp_path: Path) -> None:
    """Documents come in order; those with nothing but comments don't come."""
    file = tmp_path / "all.yaml"
    file.write_text(f"# head\n---\n{text('a')}---\n# nothing\n---\n{text('b')}---\n")

    assert load(file) == [config_map("a"), config_map("b")]


def test_a_folder_gives_its_files_by_name_but_no_subfolder(tmp_path: Path) -> None:
    """A folder is read as by ``kubectl apply -f``; kustomizations are left out."""
    (tmp_path / "b.yml").write_text(text("b"))
    (tmp_path / "a.yaml").write_text(text("a"))
    (tmp_path / "c.json").write_text(json.dumps(config_map("c")))
    (tmp_path / "empty.yaml").write_text("# later\n")
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    (tmp_path / "README.md").write_text("no manifest")
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "sub.yaml" / "d.yaml").write_text(text("d"))

    assert names(load(tmp_path)) == ["a", "b", "c"]


def test_relative_paths_start_at_base(tmp_path: Path) -> None:
    """A str or Path is taken from the given folder."""
    (tmp_path / "a.yaml").write_text(text("a"))

    assert load("a.yaml", base=tmp_path) == load(Path("a.yaml"), base=tmp_path)


def test_read_tells_file_and_line_of_each_object(tmp_path: Path) -> None:
    """The origin of an object is known, for those who report on it later."""
    file = tmp_path / "all.yaml"
    file.write_text(f"{text('a')}---\n{text('b')}")

    assert [(found.source, found.line) for found in read(file)] == [
        (file, 1),
        (file, 6),
    ]
    assert [(found.source, found.line) for found in read(text())] == [(None, 1)]
    assert [(found.source, found.line) for found in read(config_map())] == [
        (None, None)
    ]


def test_text_is_yaml() -> None:
    """Text of several lines, or a one-line mapping, is YAML, not a path."""
    one_line = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"

    assert load(text()) == load(one_line) == [config_map()]


def test_objects_are_copied() -> None:
    """A change to what was loaded does not change what was given."""
    given_one = config_map(data={"list": [1, (2, 3)]})

    (loaded,) = load(given_one)
    loaded["data"]["list"].append(4)

    assert given_one == config_map(data={"list": [1, (2, 3)]})
    assert loaded["data"]["list"] == [1, [2, 3], 4]


def test_a_sequence_gives_each(tmp_path: Path) -> None:
    """Files, texts and objects can be mixed."""
    (tmp_path / "a.yaml").write_text(text("a"))

    mixed = ["a.yaml", text("b"), config_map("c"), [config_map("d")]]

    assert names(load(mixed, base=tmp_path)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kind", ["List", "ConfigMapList"])
def test_lists_are_flattened(kind: str) -> None:
    """A List stands for its items, which may leave out what its kind says."""
    items = [config_map("a"), config_map("b")]
    if kind == "ConfigMapList":
        items = [{"metadata": item["metadata"]} for item in items]

    listed = {"apiVersion": "v1", "kind": kind, "items": items}

    assert load(listed) == [config_map("a"), config_map("b")]
    assert load(json.dumps(listed) + "\n") == [config_map("a"), config_map("b")]


class Dictable:
    """What clients with dynamic objects return."""

    def to_dict(self) -> dict[str, Any]:
        return config_map()


class Model:
    """What pydantic models look like."""

    def model_dump(self, **options: bool) -> dict[str, Any]:
        assert options == {"by_alias": True, "exclude_none": True}
        return config_map()


def test_objects_of_client_libraries_are_accepted() -> None:
    """Objects with ``to_dict()`` or ``model_dump()`` are read as what these return."""
    assert load([Dictable(), Model()]) == [config_map(), config_map()]


def test_anchors_and_merge_keys_work() -> None:
    """An alias is a copy, and a merge happens where it stands, like in kubectl."""
    (obj,) = load(
        text(
            more="a: &a {x: 1, z: 1}\nb: &b {x: 2, w: 2}\nc: *a\nd:\n  <<: [*a, *b]\n"
            "  z: 3\ne:\n  z: 3\n  <<: *a\nf: {'<<': 1}\ng: <<\n"
        )
    )

    assert obj["d"] == {"x": 1, "w": 2, "z": 3}
    assert obj["e"] == {"x": 1, "z": 1}
    assert obj["f"] == {"<<": 1}
    assert obj["g"] == "<<"
    assert obj["a"] == obj["c"]
    assert obj["a"] is not obj["c"]


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("=", "="),
        ("10:30", "10:30"),
        ("1:30:45", "1:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("1e3", 1000),
        ("1.5e3", 1500),
        ("1.5e-3", 0.0015),
        ("1e19", 1e19),
        ("1e400", "1e400"),
        (".5", 0.5),
        ("5.", 5),
        ("1.0", 1),
        ("-0", 0),
        ("0o777", 511),
        ("0777", 511),
        ("-0777", -511),
        ("08", 8),
        ("0o8", "0o8"),
        ("0x1F", 31),
        ("+0x1", 1),
        ("0b11", 3),
        ("-0b11", -3),
        ("1_000", 1000),
        ("_1", "_1"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 2.0**63),
        ("0xffffffffffffffffff", "0xffffffffffffffffff"),
        ("y", True),
        ("yes", True),
        ("On", True),
        ("yEs", "yEs"),
        ("n", False),
        ("off", False),
        ("~", None),
        ("", None),
        ("nUll", "nUll"),
        ("'y'", "y"),
        ('"1e3"', "1e3"),
        ("!!str 123", "123"),
        ('!!int "5"', 5),
        ("!!float 5", 5),
        ('!!bool "yes"', True),
        ("!!binary aGVsbG8=", "hello"),
        ("!!timestamp 2026-01-01", "2026-01-01"),
        ("!custom 12", "12"),
        ("٣", "٣"),
        (
            "{1: a, y: b, 0777: c, 1.5: d}",
            {"1": "a", "true": "b", "511": "c", "1.5": "d"},
        ),
        ("!!set {a, b}", {"a": None, "b": None}),
    ],
)
def test_scalars_are_what_kubectl_reads(scalar: str, expected: object) -> None:
    """Values and types are those of kubectl, which ``tests/clusters`` asks itself."""
    found = value(scalar)

    assert found == expected
    assert type(found) is type(expected)


def test_the_parser_without_libyaml_reads_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where PyYAML has no C parser, its own one does."""
    source = text(more="d: {a: y, b: '1', c: 10:30, d: 1e3, e: 'ü'}\n")
    expected = load(source), dump(load(source))
    monkeypatch.delattr(yaml, "CSafeLoader")
    monkeypatch.delattr(yaml, "CSafeDumper")
    kubectl_yaml._loader.cache_clear()
    kubectl_yaml._dumper.cache_clear()

    try:
        assert (load(source), dump(load(source))) == expected
    finally:
        kubectl_yaml._loader.cache_clear()
        kubectl_yaml._dumper.cache_clear()


def test_json_is_read_as_json() -> None:
    """Escapes that only JSON has are understood, and numbers are kubectl's."""
    source = json.dumps(config_map(data={"v": "\U0001f600/\t", "n": 1.0})).replace(
        "/", "\\/"
    )

    (obj,) = load(source)

    assert obj["data"] == {"v": "\U0001f600/\t", "n": 1}
    assert type(obj["data"]["n"]) is int


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no object in this file; name another one"),
        ("# nothing\n---\n", "no object in this file; name another one"),
        (
            "- a\n",
            (
                ":1: a mapping was expected, this is ['a']; start an object with apiVersion"
                " and kind"
            ),
        ),
        (
            "---\nmanager\n",
            (
                ":2: a mapping was expected, this is 'manager'; start an object with"
                " apiVersion and kind"
            ),
        ),
        (
            f"{text()}---\nkind: Pod\n",
            ":6: no apiVersion; add one, for example apiVersion: apps/v1",
        ),
        ("apiVersion: v1\n", ":1: no kind; add one, for example kind: Deployment"),
        (
            "apiVersion: 1\nkind: Pod\n",
            ":1: apiVersion is 1, which is no text; quote it",
        ),
        (
            "apiVersion: v1\nkind: Pod\n",
            ":1: Pod without metadata.name; add one, or a generateName",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: [name]\n",
            ":1: Pod without metadata.name; add one, or a generateName",
        ),
        (text("12"), ":1: metadata.name is 12, which is no text; quote it"),
        (
            text(more="data:\n  a: 1\n  b: 2\n  a: 3\n"),
            ":8: the key 'a' stands twice, in line 6 and in line 8; remove one",
        ),
        (
            '{"apiVersion": "v1",\n"kind": "A",\n"kind": "B"}',
            ":3: the key 'kind' stands twice, in line 2 and in line 3; remove one",
        ),
        (
            "a: {{ .Values.a }}\n",
            ":1: the key {'.Values.a': None} is no text; quote it",
        ),
        (
            "a: {{ .Values.a }}-{{ .Values.b }}\n",
            (
                ":1: not YAML: did not find expected key; if this is a template,"
                " render it first"
            ),
        ),
        ("a: 1\nnull: 1\n", ":2: the key None is no text; quote it"),
        (
            "a:\n\tb: 1\n",
            (
                ":2: not YAML: found character that cannot start any token; indent with"
                " spaces, YAML allows no tabs there"
            ),
        ),
        (
            "a: 1\nb: c: d\n",
            (
                ":2: not YAML: mapping values are not allowed in this context; look at"
                " quotes and indentation, also in the line above"
            ),
        ),
        (
            "a: 1\nb: \x07\n",
            ":2: not YAML: control characters are not allowed; remove the character 0x07",
        ),
        (
            "a: 1\nb: &b [*b]\n",
            ":1: nested too deeply, or by an anchor in itself; flatten it",
        ),
        (
            "a: 1\n<<: 2\n",
            ":2: << merges mappings, not 2; correct it",
        ),
        (
            "a: .inf\n",
            ":1: JSON has no number .inf; quote it, or write another one",
        ),
        ("a: !!int x\n", ":1: 'x' is no !!int; correct it, or remove the tag"),
        (
            "a: !!binary ab\n",
            ":1: 'ab' is no base64 (Incorrect padding); encode it again",
        ),
        (
            b"a: \xff\xfe",
            "not text: byte 3 is not UTF-8; save the file as UTF-8",
        ),
    ],
)
def test_mistakes_in_a_file_are_told_with_their_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    """Each error says in which file and line, what is wrong, and what to do."""
    file = tmp_path / "x.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    separator = "" if message.startswith(":") else ": "

    with pytest.raises(ManifestError) as caught:
        load(file)

    assert str(caught.value) == f"{file}{separator}{message}"
    assert caught.value.source == file


def test_the_same_mistakes_in_text_are_told_with_their_line() -> None:
    """Text has no file name, but lines."""
    with pytest.raises(ManifestError) as caught:
        load("kind: Pod\n")

    assert str(caught.value) == (
        "line 1 of the text: no apiVersion; add one, for example apiVersion: apps/v1"
    )
    assert caught.value.line == 1


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            {"apiVersion": "v1", "kind": "Pod"},
            (
                "object {'apiVersion': 'v1', 'kind': 'Pod'}: Pod without metadata.name; add"
                " one, or a generateName"
            ),
        ),
        (
            config_map(spec={"at": {1}}),
            (
                "object.spec.at is a set, which JSON has not: {1}; use mappings, lists,"
                " text, numbers, True, False and None"
            ),
        ),
        (
            config_map(spec=[{1: 2}]),
            "object.spec[0] has the key 1, no text; quote it",
        ),
        (
            {"api_version": "v1", "kind": "Pod"},
            (
                "object {'api_version': 'v1', 'kind': 'Pod'}: api_version is Python's name"
                " for apiVersion; of a model of kubernetes before 37 pass"
                " ApiClient().sanitize_for_serialization(model)"
            ),
        ),
        (
            b"kind: Pod",
            (
                "object is a bytes, which JSON has not: b'kind: Pod'; use mappings, lists,"
                " text, numbers, True, False and None"
            ),
        ),
        ("# later\n", "no object in the text '# later\\n'; write one"),
    ],
)
def test_mistakes_in_objects_are_told(obj: Any, message: str) -> None:
    """An object has no line, so the error shows it."""
    with pytest.raises(ManifestError) as caught:
        load(obj)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "missing", ["config/x.yaml", "https://example.com/x.yaml", "x"]
)
def test_a_missing_file_is_told_with_where_it_was_looked_for(
    tmp_path: Path, missing: str
) -> None:
    """One line that is no mapping was meant as a path."""
    with pytest.raises(ManifestError) as caught:
        load(missing, base=tmp_path)

    assert str(caught.value) == (
        f"{Path(missing)}: no such file or folder, looked for {tmp_path / missing};"
        " correct the path, or pass a mapping as YAML text"
    )


def test_a_folder_without_manifests_is_an_error(tmp_path: Path) -> None:
    """A folder one level too high would otherwise go unnoticed."""
    with pytest.raises(ManifestError) as caught:
        load(tmp_path)

    assert str(caught.value) == (
        f"{tmp_path}: no object in *.yaml, *.yml and *.json of this folder; subfolders"
        " are not read; name another one"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The system's reason is part of the error."""
    (tmp_path / "x.yaml").symlink_to(tmp_path / "gone.yaml")

    with pytest.raises(ManifestError) as caught:
        load(tmp_path)

    assert str(caught.value) == (
        f"{tmp_path / 'x.yaml'}: cannot be read: No such file or directory; make it"
        " readable"
    )


def test_dump_is_yaml_for_people() -> None:
    """Block style, keys in their order, no aliases, text blocks, quotes where needed."""
    shared = {"app": "x"}
    objects = [
        config_map("a", data={"on": "y", "note": "one\ntwo\n", "time": "10:30"}),
        config_map("b", spec={"labels": shared, "selector": shared, "size": "1e3"}),
    ]

    assert dump(objects) == (
        "apiVersion: v1\n"
        "kind: ConfigMap\n"
        "metadata:\n"
        "  name: a\n"
        "data:\n"
        "  'on': 'y'\n"
        "  note: |\n"
        "    one\n"
        "    two\n"
        "  time: '10:30'\n"
        "---\n"
        "apiVersion: v1\n"
        "kind: ConfigMap\n"
        "metadata:\n"
        "  name: b\n"
        "spec:\n"
        "  labels:\n"
        "    app: x\n"
        "  selector:\n"
        "    app: x\n"
        "  size: '1e3'\n"
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TRICKY = st.sampled_from(
    ["y", "=", "<<", "1e3", "0o7", "a\nb", " a\n", "\n", "~", "#", "1_0"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(-(2**53), 2**53)
    | TEXT
    | TRICKY,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | TRICKY, inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(derandomize=True, deadline=None)
@given(data=JSON, more=JSON)
def test_what_is_dumped_is_loaded_again(data: Any, more: Any) -> None:
    """Dump and load are each other's inverse for everything that JSON can say."""
    objects = [config_map("a", data=data), config_map("b", data=more)]

    assert load(dump(objects)) == objects


@settings(derandomize=True, deadline=None)
@given(content=st.binary(max_size=40) | TEXT.map(str.encode))
def test_garbage_is_always_a_manifest_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever a file holds, the error is ours and names the file."""
    file = tmp_path_factory.getbasetemp() / "garbage.yaml"
    file.write_bytes(content)

    with pytest.raises(ManifestError, match=r"garbage\.yaml"):
        load(file)


def test_install_order() -> None:
    """What others need comes first, what acts on others last, equals stay in order."""
    kinds = [
        "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration",
        "example.com/v1/Widget",
        "apps/v1/Deployment",
        "serving.knative.dev/v1/Service",
        "v1/Service",
        "v1/Secret",
        "v1/ConfigMap",
        "rbac.authorization.k8s.io/v1/RoleBinding",
        "rbac.authorization.k8s.io/v1/Role",
        "v1/ServiceAccount",
        "apiextensions.k8s.io/v1/CustomResourceDefinition",
        "v1/Namespace",
        "storage.k8s.io/v1/StorageClass",
        "v1/PersistentVolumeClaim",
        "v1/PersistentVolume",
        "apiregistration.k8s.io/v1/APIService",
        "apps/v1/Deployment",
    ]
    objects = [
        {"apiVersion": kind.rpartition("/")[0], "kind": kind.rpartition("/")[2], "n": n}
        for n, kind in enumerate(kinds)
    ]

    ordered = install_order(objects)

    assert [obj["kind"] for obj in ordered] == [
        "Namespace",
        "CustomResourceDefinition",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "Secret",
        "StorageClass",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Service",
        "Deployment",
        "Deployment",
        "Widget",
        "Service",
        "APIService",
        "ValidatingWebhookConfiguration",
    ]
    deployments = [obj["n"] for obj in ordered if obj["kind"] == "Deployment"]
    assert deployments == sorted(deployments)


CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
}


def test_crds_are_told_from_other_objects() -> None:
    """The group counts, not only the kind."""
    assert is_crd(CRD)
    assert not is_crd({**CRD, "apiVersion": "example.com/v1"})
    assert not is_crd(config_map())
    assert not is_crd({})


def test_check_crd_says_where_other_objects_belong() -> None:
    """A manifest among the CRDs is told with what it is and which option takes it."""
    check_crd(CRD, Path("config/crd/widget.yaml"))

    with pytest.raises(ManifestError) as caught:
        check_crd(config_map(), Path("config/crd/settings.yaml"))

    assert str(caught.value) == (
        "config/crd/settings.yaml: not a CRD but a ConfigMap of v1; kube_crds installs"
        " CRDs only, list this one under kube_manifests"
    )


def test_a_huge_crd_is_read_quickly() -> None:
    """A CRD of 1.5 MB is read in well under the seconds that pure Python would take."""
    prop = {"type": "string", "description": "Some words: that describe. " * 5}
    schema = {f"field{i}": {"type": "object", "properties": {f"p{j}": prop for j in range(20)}} for i in range(450)}  # fmt: skip
    source = dump({**CRD, "spec": {"schema": schema}})
    assert len(source) > 1_500_000

    start = time.process_time()
    loaded = load(source)

    assert time.process_time() - start < 1.5
    assert loaded[0]["spec"]["schema"] == schema


def test_importing_the_module_does_not_import_yaml() -> None:
    """Whoever reads no manifest does not pay for the parser."""
    code = "import sys, pytest_kube.manifests; print('yaml' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )

    assert shown.stdout == "False\n"
