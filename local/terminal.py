"""What a person sees: lines with the name of their part before them, in colour on a terminal."""

import os
import sys
from itertools import cycle

_COLOURS = cycle(("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_yellow"))
_WIDTH = 14


class Terminal:
    """Writes lines to standard output; several parts write in turn, a line at a time."""

    def __init__(self) -> None:
        """Use colours only when a terminal will show them."""
        self._colour: dict[str, str] = {"zaphub": "bold"}
        self._is_terminal = sys.stdout.isatty()

    def say(self, name: str, line: str) -> None:
        """Write one line of the part `name`. Without anybody to read it any more, nothing happens."""
        try:
            self._write(name, line)
        except OSError:
            # The reader of a pipe ended, or the terminal is gone: logs/ has it all, and nothing stops because of that.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _write(self, name: str, line: str) -> None:
        if not self._is_terminal:
            sys.stdout.write(f"{name:>{_WIDTH}} | {line}\n")
            sys.stdout.flush()
            return
        from rich.console import Console  # noqa: PLC0415 - for people only: it takes a tenth of a second to load
        from rich.text import Text  # noqa: PLC0415 - as above

        colour = self._colour.setdefault(name, next(_COLOURS))
        # A part colours its own lines, and rich would print its escapes as text.
        text = Text.assemble((f"{name:>{_WIDTH}} │ ", colour), Text.from_ansi(line))
        Console(highlight=False, soft_wrap=True).print(text)
