"""kubectl's JSONPath without kubectl: what is found, printed, refused and explained.

That kubectl does the same is tested in tests/clusters/test_kubectl_agrees.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kube.jsonpath_nodes import EvaluationError, as_text
from pytest_kube.kubectl_jsonpath import Template

OBJECT: dict[str, Any] = {
    "kind": "Widget",
    "items": [
        {"name": "a", "n": 1, "tags": ["x", "y"]},
        {"name": "b", "n": 2, "tags": []},
    ],
    "numbers": [1, 2, 3, 4, 5],
    "labels": {"app.kubernetes.io/name": "w"},
    "nothing": None,
    "load": 0.5,
    "html": {"b": "<&>", "a": [None, True, 1.5]},
    "groups": [{"id": 1, "of": ["p", "q"]}, {"id": 2, "of": []}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a {.kind} b", "a Widget b"),
        ("{.kind}{'\\t'}{.load}{\"\\n\"}", "Widget\t0.5\n"),
        ("{range .items[*]}{.name}={.n};{end}!", "a=1;b=2;!"),
        ("{range .groups[*]}{.id}:{range .of[*]}{@}{end};{end}", "1:pq;2:;"),
        ("{range .absent[*]}{.name}{end}after", "after"),
        ("{.numbers[1:4:2]}", "2 4"),
        ("{.numbers[-1]}", "5"),
        ("{.numbers[0,2]}", "1 3"),
        ("{.items[*]['name','n']}", "a b 1 2"),
        ("{.items[?(@.n>1)].name}", "b"),
        ("{..tags[*]}", "x y"),
        ("{.html}", '{"a":[null,true,1.5],"b":"\\u003c\\u0026\\u003e"}'),
        ("{.nothing}", "null"),
        ("{.absent}", ""),
        (r"{.labels.app\.kubernetes\.io/name}", "w"),
        (r"{.labels['app\.kubernetes\.io/name']}", "w"),
        ("{.labels['app.kubernetes.io/name']}", ""),
        ("{range .items[*]}{.name}", "ab"),
        ("{range .items[*]}{.kind}", "Widget"),
        ("{.kind.*}", "87 105 100 103 101 116"),
        ("{'\\u00e9\\x41\\101'}", "\u00e9AA"),
        ("{.absent[0]}{.nothing[0]}{.nothing.x}", ""),
        ("{range .nothing}{@}{end}", "<no value>"),
        ("{range .numbers[0:1]}{range .nothing}{@}{end}{end}", ""),
    ],
)
def test_templates_are_rendered(template: str, text: str) -> None:
    """The text is what kubectl get prints, oddities included."""
    assert Template(template).render(OBJECT) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.numbers[5]}", "index 5 is out of bounds of a list of 5"),
        ("{.numbers[3:1]}", "the slice starts at 3 and ends at 1"),
        ("{.kind[0]}", "text has no index"),
        ("{.html[?(@.a)]}", "a map cannot be filtered"),
        (
            "{.items[?(@.n>0.5)]}",
            "kubectl does not compare a whole number with a number with a fraction",
        ),
        ("{.items[?(@.tags[*]=='x')]}", "a filter compares single values"),
        (
            "{.items[?(@.tags==1)]}",
            "kubectl does not compare a list with a whole number",
        ),
        ("{.kind}{end}", "{end} without {range}"),
        ("{range .nothing}{[0]}{end}", "nothing has no index"),
        ("{range .nothing}{range @}{end}{end}", "a range over nothing in a range"),
        ("{.numbers[0,9]}", "index 9 is out of bounds of a list of 5"),
    ],
)
def test_evaluation_that_fails_says_why(template: str, text: str) -> None:
    """Where kubectl fails, an error says what it minds."""
    with pytest.raises(EvaluationError) as caught:
        Template(template).render(OBJECT)

    assert str(caught.value) == text


def test_filter_for_existence_does_not_mind_an_error() -> None:
    """Like kubectl, which takes what was found before the error for the answer."""
    assert Template("{.items[?(@.tags[5])].name}").render(OBJECT) == "a b"
    assert Template("{.items[?(@.tags[0,5])].name}").render(OBJECT) == "a b"


@pytest.mark.parametrize(
    ("template", "place", "expected"),
    [
        ("", 0, "a template"),
        ("a {.b", 5, ".name, [index] or }"),
        ("{.a[0}", 5, "]"),
        ("{.a[x]}", 4, "an index, a slice, a 'key', * or ?(filter)"),
        ('{.a["x"]}', 4, "an index, a slice, a 'key', * or ?(filter)"),
        ("{.a[0, y]}", 7, "an index, a slice, a 'key', * or ?(filter)"),
        ("{.a[::0]}", 6, "a step of 1 or more"),
        ("{.a[?(@.b==1)}", 13, "]"),
        ("{.a[?(@.b==1", 12, ")]"),
        ("{.a[?(@.b==c)]}", 11, '@.path, "text", a number, true or false'),
        ("{.a[?(@.b==1 && @.c==2)]}", 13, "one comparison or )"),
        ("{.a[?(@.b=~'c')]}", 9, "==, !=, <, <=, > or >="),
        ("{.a}{nonsense}", 5, "range, end, .nonsense or 'nonsense' in quotes"),
        ("{....a}", 3, "a name; only one .. can stand there"),
        ("{'a}", 4, "' at the end of the text"),
        ('{"\\q"}', 2, "an escape of Go, such as \\n or \\u00e9"),
        ("{1.2.3}", 1, "a number"),
        ("{.a\n}", 3, ".name, [index] or }"),
        ("{.a['b c']}", 7, "range, end, .c or 'c' in quotes"),
    ],
)
def test_mistakes_are_pointed_to(template: str, place: int, expected: str) -> None:
    """A syntax error says what was expected, with a caret under the place."""
    with pytest.raises(ValueError, match="^JSONPath: expected") as caught:
        Template(template)

    caret = " " * place + "^"
    assert (
        str(caught.value) == f"JSONPath: expected {expected}\n  {template}\n  {caret}"
    )


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("kind", "{.kind}"),
        (".kind", "{.kind}"),
        ("{kind}", "{.kind}"),
        ("{.kind}", "{.kind}"),
        ("{$.kind}", "{$.kind}"),
        ("{['kind']}", "{['kind']}"),
        ("{.kind} {.load}", "{.kind} {.load}"),
    ],
)
def test_relaxed_form_needs_neither_braces_nor_dot(text: str, template: str) -> None:
    """What kubectl wait takes becomes a template."""
    assert Template.relaxed(text).text == template


def test_relaxed_form_points_into_the_text_as_it_was_written() -> None:
    """The braces and the dot that were added do not shift the caret."""
    with pytest.raises(ValueError, match="JSONPath") as caught:
        Template.relaxed("a[x]")

    assert str(caught.value).endswith("\n  a[x]\n    ^")


@pytest.mark.parametrize(
    ("template", "single"),
    [
        ("{.kind}", True),
        ("{.items[*].name}", True),
        ("{.kind} ", False),
        ("{.kind}{.load}", False),
        ("{range .items[*]}{end}", False),
        ("text", False),
    ],
)
def test_single_expressions_are_told_from_templates(
    template: str, *, single: bool
) -> None:
    """kubectl wait takes one expression, and no text."""
    assert Template(template).single is single


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1e5, "100000"),
        (1e6, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-2.5e-7, "-2.5e-07"),
        (2**63 - 1, "9223372036854775807"),
        (2**63, "9.223372036854776e+18"),
        (0.0, "0"),
        (float("inf"), "+Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_are_printed_as_go_does(value: float, text: str) -> None:
    """Large and small ones get an exponent of two digits."""
    assert as_text(value) == text


def test_numbers_beyond_every_float_are_printed_anyway() -> None:
    """No server sends them, but a test may."""
    assert as_text(10**400) == "1" + "0" * 400


def test_very_deep_objects_cannot_be_printed() -> None:
    """They are an error of the evaluation, like others, and not one of recursion."""
    obj: dict[str, Any] = {}
    for _ in range(5_000):
        obj = {"inner": obj}

    with pytest.raises(EvaluationError, match="too deep to print"):
        Template("{}").render(obj)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{.kin}",
            "the object has no kin; it has kind, nothing, items, numbers, labels, …",
        ),
        ("{.html.c}", "html has no c; it has b, a"),
        ("{.status.phase}", "no status yet"),
        ("{.items[0].nam}", "items[0] has no nam; it has name, n, tags"),
        ("{.items[5].name}", "items has 2 items, and none at [5]"),
        ("{.kind.x}", "kind is Widget, which has no x"),
        ("{.items.x}", "items is a list, which has no x"),
        ("{.nothing.x}", "nothing is null"),
        ("{.items[?(@.n>5)].name}", "items has nothing that passes the filter"),
        ("{..absent}", "the object has nothing that fits"),
    ],
)
def test_why_nothing_says_where_a_path_stops(template: str, text: str) -> None:
    """The nearest names come first."""
    assert Template(template).why_nothing(OBJECT) == text


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", ""]), inner, max_size=3)
    ),
    max_leaves=12,
)
ODD = st.text(alphabet="{}[]().,:*?@$'\"\\ab01- =<>&\nrange", max_size=20)
WHOLE = st.sampled_from(
    [
        "{..}{.a[*].b}",
        "{range .a[*]}{@}{range .b}{.a}{end}{end}",
        "{.a[?(@.b>=1)]}",
        "{.a[?(@.b)]['a','b']}",
        "{.*.*}{.a[::2]}{.a[-1:]}",
        "{range range ..}{.a}{end}",
        "{['a range','b']}{end}",
    ]
)


@settings(derandomize=True, deadline=None)
@given(obj=ANY, text=ODD | WHOLE)
def test_no_other_error_is_raised(obj: Any, text: str) -> None:
    """Any text is a template or a ValueError, any object is searched or refused."""
    try:
        for template in (Template(text), Template.relaxed(text)):
            template.why_nothing(obj)
            assert isinstance(template.render(obj), str)
    except (ValueError, EvaluationError):
        pass
