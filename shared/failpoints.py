"""Named points where a test may end the process, to prove that a crash there loses nothing. Off otherwise.

`ZAPHUB_FAILPOINT=send_before_record` kills the process (SIGKILL) the first time it reaches that point; the marker file
`<ZAPHUB_FAILPOINT_DIR>/<name>` is written before, so that the restarted process goes on.
"""

import os
import signal

from shared.settings import load_failpoint


def reach(name: str) -> None:
    """Die here when a test asked for it; otherwise nothing. Costs one comparison."""
    wanted = load_failpoint()
    if wanted.failpoint != name or wanted.failpoint_dir is None:
        return
    marker = wanted.failpoint_dir / name
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
