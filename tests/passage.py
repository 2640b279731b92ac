"""A way from a namespace's loopback to the same port of this machine's, that can be shut: then nothing passes, and nothing ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

from tests.namespaces import inside


class Passage:
    """Carries TCP connections from 127.0.0.1:port in the namespace to 127.0.0.1:port here, on an event loop in a thread of its own."""

    def __init__(self, namespace: str, port: int) -> None:
        self._port = port
        self._listening = inside(namespace, lambda: socket.create_server(("127.0.0.1", port)))
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()

    def shut(self) -> None:
        """Let nothing pass from now on, as if a cable had been pulled."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def reopen(self) -> None:
        """Let everything pass again, what has waited first."""
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, sock=self._listening)
        await self._ended.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self._open.wait()
            there, onward = await asyncio.open_connection("127.0.0.1", self._port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, onward))
                both.create_task(self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
