"""Write reference.md and recipes.md from the code: ``python docs/generate.py``.

With ``--check`` nothing is written; the exit code says whether they are up to date.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_overloads

import pytest_kube
from pytest_kube import cli, conditions, errors, fixtures, nox, plugin, verbs, waits

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent
RECIPES = DOCS.parent / "examples" / "recipes" / "tests"
WIDTH = 88
NOTE = "<!-- Made by docs/generate.py from the code: change it there. -->"
ABOUT_RECIPES = """\
Each is a file of [examples/recipes](../examples/recipes) that runs as it stands, with
`pytest --kube=kwok` or `--kube=envtest` in that folder. The controller that most of
them test is [websites.py](../examples/recipes/src/websites.py): each `Website` gets a
page in a ConfigMap, and a host in a DNS zone. Fixtures that they share are in
[conftest.py](../examples/recipes/tests/conftest.py)."""

# Their other methods are for the plugin itself.
ONLY = {
    "Cluster": ("kubeconfig", "name"),
    "Controller": (
        *("errors", "kill", "lines", "outcomes", "output", "pause", "ports"),
        *("reconciles", "requests", "restart", "resume", "stop", "summary"),
        "wait_idle",
    ),
}
TYPES = {verbs: ("Ref",), waits: ("ConditionLike",), conditions: ("Predicate",)}


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or compare them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(argv).check
    wrong = [
        p for p, s in pages().items() if not p.exists() or p.read_text("utf-8") != s
    ]
    for path in wrong:
        if not check:
            path.write_text(pages()[path], "utf-8")
        state = "is not what docs/generate.py makes" if check else "written"
        sys.stderr.write(f"{path.name}: {state}\n")
    return int(check and bool(wrong))


def pages() -> dict[Path, str]:
    """Return each page, and what it has to contain."""
    found = {DOCS / "reference.md": reference(), DOCS / "recipes.md": recipes()}
    return {
        path: "\n\n".join(filter(None, parts)) + "\n" for path, parts in found.items()
    }


def recipes() -> Iterator[str]:
    """Yield the prose of each recipe, and its code."""
    yield from ("# Recipes", NOTE, ABOUT_RECIPES)
    for path in sorted(RECIPES.glob("test_*.py")):
        _, prose, code = path.read_text("utf-8").split('"""', 2)
        code = code.replace("from __future__ import annotations\n", "", 1).strip()
        where = f"[{path.name}](../examples/recipes/tests/{path.name})"
        yield from (f"## {prose.strip()}", f"{where}:", f"```python\n{code}\n```")


def reference() -> Iterator[str]:
    """Yield the page on everything that users can name."""
    yield from ("# Reference", NOTE, "## Fixtures")
    for node in tree_of(fixtures).body:
        if isinstance(node, ast.FunctionDef) and node.name in fixtures.NAMES:
            yield from fixture(node)
    usage, _, text = plugin.MARKER.partition(": ")
    yield from ("## The marker", f"`@pytest.mark.{usage}`", f"It says {text}.")
    yield from ("## Options", Options().table())
    named = [getattr(pytest_kube, name) for name in pytest_kube.__all__]
    classes = [c for c in named if isinstance(c, type) and not is_error(c)]
    for cls in sorted(classes, key=lambda c: (c is not pytest_kube.Kube, c.__name__)):
        yield from class_entry(cls)
    others = [f for f in named if inspect.isfunction(f) and not is_condition(f)]
    yield "## Functions" if others else ""
    for function in others:
        yield from entry(function.__name__, function.__doc__, function)
    yield "## Types in signatures"
    for module, names in TYPES.items():
        yield from (f"`{n}`: {markdown(t)}" for n, t in values(module) if n in names)
    yield from condition_entries()
    yield from error_entries()
    yield from ("## In a noxfile", "`from pytest_kube.nox import kube_versions`")
    yield from entry("kube_versions", nox.kube_versions.__doc__, nox.kube_versions)
    yield from ("## The command", *commands(cli._parser()))  # noqa: SLF001


def condition_entries() -> Iterator[str]:
    """Yield the conditions: functions that make them, and values."""
    yield from ("## Conditions", markdown(conditions.__doc__).partition("\n\n")[2])
    for name, function in vars(conditions).items():
        if is_condition(function) and name[0] != "_":
            yield from entry(name, function.__doc__, function)
            yield origin(name, conditions)
    for name, text in values(conditions):
        if isinstance(getattr(conditions, name), conditions.Condition):
            yield from entry(name, text)
            yield origin(name, conditions)


def error_entries() -> Iterator[str]:
    """Yield the errors: their tree, and each with its bases."""
    yield from ("## Errors", markdown(errors.__doc__))
    for name, error in vars(errors).items():
        if is_error(error) and name[0] != "_":
            bases = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
            text = f"A kind of {bases}. {markdown(error.__doc__)}"
            yield from (f"### `{name}`", text, origin(name, errors))


def fixture(node: ast.FunctionDef) -> Iterator[str]:
    """Yield what a fixture is, for how long, and its docstring."""
    scope = re.search(r"scope='(\w+)'", ast.unparse(node.decorator_list[0]))
    gives = re.sub(r"^Iterator\[(.*)\]$", r"\1", ast.unparse(node.returns or node))
    yield f"### `{node.name}`"
    yield f"`{gives}`, scope `{scope[1] if scope else 'function'}`."
    yield markdown(ast.get_docstring(node))


class Options:
    """The options, asked for as pytest does: with their other names, and the help."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}
        plugin.pytest_addoption(self)  # type: ignore[arg-type]

    def getgroup(self, *_: str) -> Options:
        """Return the group of options: the same."""
        return self

    def addoption(self, option: str, *, metavar: str = "", **given: Any) -> None:
        """Note an option, with the environment variable of that name."""
        name = option.removeprefix("--").replace("-", "_")
        usage = f"{option}={metavar}" if metavar else option
        self.rows[name] = [f"`{usage}`", f"`PYTEST_{name.upper()}`", "", given["help"]]

    def addini(self, name: str, text: str, **_: Any) -> None:
        """Note an ini value, beside the option of that name if there is one."""
        self.rows.setdefault(name, ["", "", "", text])[2] = f"`{name}`"

    def table(self) -> str:
        """Return them as a table."""
        rows = [["option", "environment", "ini", "meaning"], ["---"] * 4]
        rows += [[c.replace("|", r"\|") for c in row] for row in self.rows.values()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def class_entry(cls: type) -> Iterator[str]:
    """Yield a class, its methods and its properties, those of its bases first."""
    yield from (f"## {cls.__name__}", markdown(inspect.getdoc(cls)))
    ours = [c for c in cls.__mro__[::-1] if c.__module__.startswith("pytest_kube")]
    for name, member in ((n, m) for c in ours for n, m in vars(c).items()):
        function = member.fget if isinstance(member, property) else member
        public = name[0] != "_" and name in ONLY.get(cls.__name__, (name,))
        if public and inspect.isfunction(function):
            yield from entry(name, function.__doc__, function)


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield each command below a parser: what it is for, and what it takes."""
    found = (a.choices for a in parser._actions if isinstance(a.choices, dict))  # noqa: SLF001
    helps = {a.dest: a.help for s in parser._actions for a in subactions(s)}  # noqa: SLF001
    for name, command in ((n, c) for choices in found for n, c in choices.items()):
        text = str(helps[name])
        yield from (f"### `{command.prog}`", f"{text[0].upper()}{text[1:]}.")
        lines = []
        for action in command._actions:  # noqa: SLF001
            words = [*action.option_strings, *filter(None, [action.metavar])]
            if action.help and action.dest != "help":
                lines.append(f"- `{' '.join(words)}`: {action.help % vars(action)}")
        yield "\n".join(lines)
        yield from commands(command)


def subactions(action: argparse.Action) -> list[argparse.Action]:
    """Return the commands of an action, with the help that argparse hides."""
    return getattr(action, "_choices_actions", [])


# --- pieces -------------------------------------------------------------------


def is_error(obj: object) -> bool:
    """Tell whether it is an error of ours."""
    return isinstance(obj, type) and issubclass(obj, errors.KubeError)


def is_condition(obj: Any) -> bool:
    """Tell whether it is a function that makes a condition."""
    ours = inspect.isfunction(obj) and obj.__module__ == conditions.__name__
    return ours and obj.__annotations__["return"] == "Condition"


def origin(name: str, module: Any) -> str:
    """Say where a name is imported from, if not from the package."""
    home = "" if name in pytest_kube.__all__ else module.__name__
    return f"`from {home} import {name}`" if home else ""


def tree_of(thing: Any) -> ast.Module:
    """Return the syntax tree of a module or a function."""
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def values(module: Any) -> Iterator[tuple[str, str]]:
    """Yield each value that a module has a docstring for, and that."""
    for node, after in pairwise(tree_of(module).body):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
            yield ast.unparse(node.target), ast.literal_eval(after.value)


def entry(name: str, text: str | None, function: Any = None) -> Iterator[str]:
    """Yield heading, signatures and docstring."""
    yield f"### `{name}`"
    if function:
        lines = [signature(f) for f in get_overloads(function) or [function]]
        yield "\n".join(["```python", *lines, "```"])
    yield markdown(text)


def signature(function: Any) -> str:
    """Return how a function is called, in the words of its source."""
    node: Any = tree_of(function).body[0]
    takes, gives = node.args, ast.unparse(node.returns)
    if "property" in map(ast.unparse, node.decorator_list):
        return f"{node.name}: {gives}"
    takes.args = [a for a in takes.args if a.arg != "self"]
    for defaults in (takes.defaults, takes.kw_defaults):
        # A private name says nothing; the text tells what happens then.
        private = [isinstance(d, ast.Name) and d.id[0] == "_" for d in defaults]
        defaults[:] = [
            ast.Constant(...) if p else d
            for d, p in zip(defaults, private, strict=True)
        ]
    gives = re.sub(r"^Iterator\[(.*)\]$", r"AbstractContextManager[\1]", gives)
    words = re.sub(r"(: [^=,]+(?:\[.*?\])?[^=,]*)=", r"\1 = ", ast.unparse(takes))
    words = words.replace("'", '"').replace("manifests.", "")
    if len(f"{node.name}({words}) -> {gives}") > WIDTH:
        words = re.sub(r", (?![^\[]*\])", ",\n    ", f"\n    {words}") + ",\n"
    return f"{node.name}({words}) -> {gives}"


def markdown(text: str | None) -> str:
    """Return a docstring as Markdown: Google's sections as lists, reST as code."""
    text = re.sub(r"(?::\w+:)?(`+)([^`]+)\1", r"`\2`", inspect.cleandoc(text or ""))
    blocks = re.split(r"\n\n(?=[A-Z]\w+:\n    )", text)
    return "\n\n".join([literal(blocks[0]), *map(section, blocks[1:])])


def literal(text: str) -> str:
    """Fence what reST has indented after two colons."""
    before, mark, block = text.partition("::\n\n")
    return f"{before}:\n\n```text\n{textwrap.dedent(block)}\n```" if mark else text


def section(block: str) -> str:
    """Return a section of a docstring: an example, a sentence, or a list of names."""
    title, _, body = block.partition(":\n")
    body = textwrap.dedent(body)
    if title == "Example":
        return f"```pycon\n{body}\n```"
    if title in {"Returns", "Yields"}:
        return f"**{title}**: {' '.join(body.split())}"
    items = (" ".join(item.split()) for item in re.split(r"\n(?=\S)", body))
    lines = [re.sub(r"^(\w+): ", r"- `\1`: ", item) for item in items]
    return "\n".join([f"**{title.replace('Args', 'Arguments')}**\n", *lines])


if __name__ == "__main__":
    sys.exit(main())
