"""`python -m local.fake_whatsapp`: the server as a process. See `./zh fake-whatsapp --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from local.fake_whatsapp.server import serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="fake-whatsapp", description="A WhatsApp Web server on loopback.")
    parser.add_argument(
        "--control-port", type=_port, default=0, help="of the control API; 0, the default, takes a free one"
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="what the server accepted, and its keys")
    options = parser.parse_args()
    return asyncio.run(_run(options.data_dir, control_port=options.control_port))


async def _run(data_dir: Path, *, control_port: int) -> int:
    """Serve until SIGINT or SIGTERM; one JSON line on stdout says where, once all is ready."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serve(data_dir, control_port=control_port) as addresses:
        line = {"control_url": addresses.control_url, "proxy_url": addresses.proxy_url}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    return 0


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 1 << 16:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
