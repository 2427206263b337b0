"""What a Lambda's handler costs before its first invocation: `python -m local.cold_start [--docs]`.

Each run is a process of its own that may import what the handler's zip holds and nothing else of this checkout's
environment, so it needs no zip and no network. Bytecode is there, as it is in a zip.
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from typing import Final

from local.environment import CHECKOUT, inherited
from local.packaging.requirements import without
from local.packaging.roles import ROLES

DOCS: Final = CHECKOUT / "docs" / "performance.md"
_BEGIN: Final = "<!-- cold start: begin -->\n"
_END: Final = "<!-- cold start: end -->"
_ROUNDS: Final = 5
_RUN_S: Final = 60
_OURS: Final = ("api", "functions", "local", "session_host", "shared", "tests")
# One megabyte as AWS counts memory.
_MB: Final = 2**20

_CODE: Final = """
import json, resource, sys, time

blocked = frozenset(json.loads(sys.argv[1]))

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
sys.path.insert(0, sys.argv[2])
began = time.process_time()
__import__(sys.argv[3])
cpu_s = time.process_time() - began
print(json.dumps([sorted(sys.modules), cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """One process that imported a handler: which modules there are then, CPU seconds of the import, memory in use."""

    modules: frozenset[str]
    cpu_s: float
    rss_bytes: int

    @property
    def packages(self) -> frozenset[str]:
        """The modules' first names."""
        return frozenset(name.partition(".")[0] for name in self.modules)


def measure(role: str, handler: str) -> ColdStart:
    """Import the handler as a new container does. Raises AssertionError, with what Python said, when that fails."""
    module = handler.rpartition(".")[0]
    done = subprocess.run(
        [sys.executable, "-c", _CODE, json.dumps(_absent(role)), str(CHECKOUT), module],
        env={"PATH": inherited()["PATH"], "AWS_LAMBDA_FUNCTION_NAME": "cold-start"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_RUN_S,
    )
    assert done.returncode == 0, done.stderr
    modules, cpu_s, rss_bytes = json.loads(done.stdout)
    return ColdStart(modules=frozenset(modules), cpu_s=cpu_s, rss_bytes=rss_bytes)


@cache
def _absent(role: str) -> list[str]:
    """What can be imported here and not from the role's zip."""
    chosen = ROLES[role]
    pins = (CHECKOUT / "requirements" / chosen.requirements).read_text(encoding="utf-8")
    held = {_normal(name) for name in re.findall(r"^([\w.-]+)==", without(pins, chosen.left_out), re.MULTILINE)}
    return sorted(
        top
        for top, distributions in packages_distributions().items()
        if top not in _OURS and not any(_normal(name) in held for name in distributions)
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def report(rounds: int = _ROUNDS) -> str:
    """The table: medians of so many rounds, in each of which every handler starts once."""
    runs: dict[tuple[str, str], list[ColdStart]] = {}
    for _ in range(rounds):
        for role, chosen in ROLES.items():
            for handler in chosen.handlers:
                runs.setdefault((role, handler), []).append(measure(role, handler))
    lines = [
        f"Python {platform.python_version()}, {platform.machine()}, {rounds} rounds.",
        "",
        "| function | modules | CPU of the import, median (least to most) | memory then |",
        "|---|---|---|---|",
    ]
    for (_, handler), starts in runs.items():
        cpu = sorted(start.cpu_s * 1000 for start in starts)
        name = handler.removesuffix(".handler")
        memory = statistics.median(start.rss_bytes for start in starts) / _MB
        lines.append(
            f"| `{name}` | {len(starts[0].modules)} |"
            f" {statistics.median(cpu):.0f} ms ({cpu[0]:.0f} to {cpu[-1]:.0f}) | {memory:.0f} MiB |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say it or put it into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="python -m local.cold_start", description="Measure the handlers' cold start.")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    table = report()
    if options.docs:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(_BEGIN)
        _, _, after = rest.partition(_END)
        DOCS.write_text(f"{before}{_BEGIN}{table}{_END}{after}", encoding="utf-8")
    else:
        sys.stdout.write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
