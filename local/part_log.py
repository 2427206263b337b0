"""Where the output of a part goes: a file of bounded size, the last lines in memory, and the terminal."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# One file and its predecessor a part: a noisy part never fills the disk.
_MOST_BYTES = 16 * 1024 * 1024
_LINES_IN_MEMORY = 30


class PartLog:
    """Takes a part's output in pieces of any size and passes it on in lines."""

    def __init__(self, path: Path, *, show: Callable[[str], None] | None) -> None:
        """Append to `path`; `show` gets every whole line, None for a part that is quiet on the terminal."""
        self.path = path
        self.last_lines: deque[str] = deque(maxlen=_LINES_IN_MEMORY)
        self._show = show
        self._begun = b""
        # Without a buffer, which would keep what a full disk does not take.
        self._file = path.open("ab", buffering=0)

    def feed(self, piece: bytes) -> None:
        """Take output as it comes. What a full disk does not take is lost to the file alone."""
        with suppress(OSError):
            self._keep(piece)
        *lines, self._begun = (self._begun + piece).split(b"\n")
        for line in lines:
            self._take(line)

    def _keep(self, piece: bytes) -> None:
        if self._file.tell() > _MOST_BYTES:
            self.path.replace(self.path.with_suffix(".log.1"))
            full, self._file = self._file, self.path.open("ab", buffering=0)
            full.close()
        self._file.write(piece)

    def close(self) -> None:
        """Pass on what had no line end, and close the file."""
        if self._begun:
            self._take(self._begun)
            self._begun = b""
        self._file.close()

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self.last_lines.append(text)
        if self._show is not None:
            self._show(text)
