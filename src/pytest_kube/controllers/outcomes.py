"""What the calls of a controller's handlers came to, where its framework tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Outcome:
    """What a call of a handler came to.

    Attributes:
        time: When it ended, in UTC.
        handler: The handler's id.
        about: The object, as in ``Widget default/w1``; empty for what is about none,
            such as startup and cleanup.
        result: ``retry`` if the handler will be called again, ``error`` if not.
        text: The error, with its traceback; empty for ``success``.
    """

    time: datetime
    handler: str
    about: str
    result: Literal["success", "retry", "error"]
    text: str
