"""A browser for the tests of reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import headless

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the DevTools of a page in a running browser."""
    program = headless.program()
    if program is None:
        names = ", ".join(headless.PROGRAMS)
        pytest.skip(f"needs a browser: none of {names} is in PATH")
    with headless.running(program, tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
def browser(chromium: str) -> Iterator[headless.Browser]:
    """A page of a browser."""
    page = headless.Browser(chromium)
    page.look()
    yield page
    page.close()
