"""`python -m session_host`: the supervisor of the processes that hold the WhatsApp sockets."""

import argparse
import asyncio
import sys

from session_host.supervisor import Supervisor
from shared import log, presence
from shared.domain.errors import Misconfigured
from shared.settings import load


def main() -> int:
    """Run until SIGTERM; 0 then, 78 for a wrong setting, 1 when a child cannot start."""
    parser = argparse.ArgumentParser(prog="session-host", description="Holds the WhatsApp sockets.")
    parser.add_argument(
        "--connector",
        metavar="MODULE:FUNCTION",
        help="tests and the demo only: what points the library at the server of ZAPHUB_FAKE_WHATSAPP_URL",
    )
    options = parser.parse_args()
    try:
        settings = load()
    except Misconfigured as error:
        sys.stderr.write(f"{error.detail}\n")
        return 78
    if settings.run_dir is not None:
        presence.die_with_parent()
    log.configure(level=settings.log_level, fmt=settings.log_format)
    return asyncio.run(Supervisor(settings, connector=options.connector).run())


if __name__ == "__main__":
    sys.exit(main())
