"""`python -m local.fake_whatsapp`: the server as a process. See `./zh fake-whatsapp --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import signal
import sys
from pathlib import Path

from shared import log


def main() -> int:
    parser = argparse.ArgumentParser(prog="fake-whatsapp", description="A WhatsApp Web server on loopback.")
    parser.add_argument(
        "--control-port", type=_port, default=0, help="of the control API; 0, the default, takes a free one"
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="what the server accepted, and its keys")
    options = parser.parse_args()
    log.configure(level="warning", fmt="json")
    # At import it warns about tools for sending media, which a server does not do.
    logging.getLogger("neonize").setLevel(logging.ERROR)  # noqa: TID251 - a library's logger, silenced
    _allow_many_sockets()
    try:
        return asyncio.run(_run(options.data_dir, control_port=options.control_port))
    except* OSError as failed:
        # Told in a sentence: a taken port or folder is the operator's to mend, not a defect.
        for error in failed.exceptions:
            sys.stderr.write(f"fake-whatsapp: {error}\n")
    return 1


async def _run(data_dir: Path, *, control_port: int) -> int:
    """Serve until SIGINT or SIGTERM; one JSON line on stdout says where, once all is ready."""
    from local.fake_whatsapp.server import serve  # noqa: PLC0415 - it loads neonize, which logs at import

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serve(data_dir, control_port=control_port) as addresses:
        line = {"control_url": addresses.control_url, "proxy_url": addresses.proxy_url}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    return 0


def _allow_many_sockets() -> None:
    """Each session holds a socket; the usual limit of 1024 is a default, not a need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 1 << 16:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
