"""A way to a server of this machine that can be held, and shut for good."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_TIMEOUT = 5.0
"""Seconds that the gate's own thread has for anything."""


class Gate:
    """Passes on what comes over each connection, both ways, until it is shut.

    Use it as a context manager; leaving it shuts it.

    Args:
        host: Where the server listens, and the gate as well.
        port: The port of the server.

    Attributes:
        port: The port of the gate.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._held = False
        self._ends: set[_End] = set()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._serve, name="pytest-kube gate", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shut()

    def hold(self) -> None:
        """Let nothing through, and lose nothing, until :meth:`release`."""
        self._do(lambda: self._hold(held=True))

    def release(self) -> None:
        """Let everything through again."""
        self._do(lambda: self._hold(held=False))

    def shut(self) -> None:
        """Break all connections and accept no more. Can be called again."""
        self._do(self._loop.stop)
        self._thread.join(_TIMEOUT)

    # --- in the gate's own thread ---------------------------------------------

    def _do(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:
            return  # it is shut
        done.wait(_TIMEOUT)

    def _serve(self) -> None:
        loop = self._loop
        try:
            server = loop.run_until_complete(
                loop.create_server(lambda: _End(self), sock=self._listener)
            )
            loop.run_forever()
            server.close()
            loop.run_until_complete(self._end())
        finally:
            loop.close()

    async def _end(self) -> None:
        await asyncio.sleep(0)  # what was accepted has become a task then
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in list(self._ends):
            end.transport.abort()
        while self._ends:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the next turn of the loop, no pause

    def _hold(self, *, held: bool) -> None:
        self._held = held
        for end in self._ends:
            end.read_or_not()

    def joined(self, end: _End) -> None:
        """Take an end of a connection, and connect the client's with the server."""
        self._ends.add(end)
        if end.other is None:
            end.connecting = self._loop.create_task(self._connect(end))
        end.read_or_not()

    def left(self, end: _End) -> None:
        """Forget an end."""
        self._ends.discard(end)

    @property
    def held(self) -> bool:
        """Whether nothing is let through."""
        return self._held

    async def _connect(self, client: _End) -> None:
        try:
            await self._loop.create_connection(
                lambda: _End(self, client), *self._server
            )
        except OSError:
            client.transport.abort()


class _End(asyncio.Protocol):
    """One end of a connection through a gate: the client's, or the server's."""

    transport: asyncio.Transport

    def __init__(self, gate: Gate, other: _End | None = None) -> None:
        self._gate = gate
        self.other = other
        self.connecting: asyncio.Task[None] | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport
        if self.other is not None:
            self.other.other = self
            self.other.read_or_not()
        self._gate.joined(self)

    def read_or_not(self) -> None:
        """Read while what is read can be passed on."""
        if self._gate.held or self.other is None or self.other.is_full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    @property
    def is_full(self) -> bool:
        """Whether it cannot take more at the moment."""
        return self._full

    def pause_writing(self) -> None:
        self._fill(full=True)

    def resume_writing(self) -> None:
        self._fill(full=False)

    def _fill(self, *, full: bool) -> None:
        self._full = full
        if self.other is not None:
            self.other.read_or_not()

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True  # the other way may still be used

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._gate.left(self)
        if self.other is not None:
            self.other.transport.close()
        elif self.connecting is not None:
            self.connecting.cancel()
