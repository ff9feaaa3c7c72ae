"""For noxfiles: a session once for each Kubernetes version. Needs nox, and no pytest.

nox is no dependency of ours: a noxfile that imports this module is run by a nox that
has pytest-kube beside it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_kube.binaries.releases import MATRIX

if TYPE_CHECKING:
    from collections.abc import Callable

    import nox

    Function = Callable[..., Any]


def kube_versions(*versions: str) -> Callable[[Function], Function]:
    """Run a nox session once for each version: ``nox -s 'tests(kube="1.36")'``.

    Whatever pytest the session runs has the version in its environment. The function
    gets it as its parameter *kube*.

    Args:
        versions: As ``--kube-version`` takes them; without any, the newest minor and
            three before it.
    """
    import nox

    chosen = list(versions or MATRIX)

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def run(session: nox.Session, kube: str, **parameters: Any) -> Any:
            session.env["PYTEST_KUBE_VERSION"] = kube
            return function(session, kube=kube, **parameters)

        decorated: Function = nox.parametrize("kube", chosen)(run)
        return decorated

    return decorate
