"""What is written for a person who may have left."""

import os
import subprocess
import sys

from local.environment import CHECKOUT


def test_a_reader_who_left_stops_nothing() -> None:
    code = "from local.terminal import Terminal; import sys; t = Terminal()\nfor _ in range(9): t.say('api', 'line')\n"
    code += "sys.stderr.write('went on')"
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, "went on")
