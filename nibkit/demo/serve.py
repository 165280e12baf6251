"""The page, served by one process of this machine: nothing comes from elsewhere, nothing goes there."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nibkit.errors import UserError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Gradio's own page names fonts and a script of other hosts; the browser is told to ask nobody but this process
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; form-action 'self'"


def check_address(host: str, port: int) -> None:
    """Raise :class:`UserError` if nothing can listen at this address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host '{host}' is no address; use 127.0.0.1 for this machine alone") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(f"port {port} is taken; choose another by --port") from error
            raise UserError(f"cannot listen at {host}, port {port}: {error.strerror}; "
                            "choose another by --host and --port") from error  # fmt: skip


def serve(host: str, port: int, weights: Sequence[str] = (), browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host: address to listen at.
        port: likewise.
        weights: further files to choose from.
        browser: open one.

    Raises:
        UserError: weights that cannot be used.
    """
    import uvicorn

    from nibkit.demo.catalogue import read_catalogue

    catalogue = read_catalogue(weights)
    with TemporaryDirectory(prefix="nibkit-demo-") as name:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": f"{name}/cache"}
        from nibkit.demo.page import make_app  # Gradio reads the environment

        app = only_this_host(make_app(catalogue, Path(name)))
        url = _url(host, port)
        print(f"the page is at {url} ; stop it with Ctrl-C", flush=True)
        if browser:
            threading.Timer(1.0, webbrowser.open, [url]).start()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder goes then, too
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1)


def _url(host: str, port: int) -> str:
    """Return what a browser on this machine opens."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reachable}:{port}"


def only_this_host(app: App) -> App:
    """Return an app whose every answer forbids the browser to ask other hosts."""
    policy = (b"content-security-policy", POLICY.encode())

    async def wrapped(scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await app(scope, receive, send_with_policy)

    return wrapped
