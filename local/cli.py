"""The commands behind `./zh`. Each is loaded when it is called, so that `./zh help` answers at once."""

# ruff: noqa: PLC0415 - see above

import argparse
import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from local.environment import CHECKOUT
from shared.domain.errors import ZapHubError

Handler = Callable[[argparse.Namespace], int]

_NOT_HERE = _WRONG = 2
_LAST_PORT = 65_535
_OVERVIEW = """\
ZapHub, a self-hosted WhatsApp gateway.

  ./zh demo              see it work, against a fake WhatsApp server, on this machine only
  ./zh up                run it: API, worker, session host, scheduler; Ctrl-C stops it
  ./zh test              run the test suite
  ./zh doctor            say what is wrong with this set-up, and the command that mends it

  ./zh keys create --name N --scopes S[,S]     an API key; also: keys list, keys revoke ID
  ./zh migrate           bring the database's schema up to date
  ./zh check             format, lint, types and import rules
  ./zh backup            everything that it needs to come back, in one file; ./zh restore FILE brings it back
  ./zh bench             measure against other queues
  ./zh api | worker | session-host | scheduler | fake-whatsapp     one part alone

./zh COMMAND --help tells more. Settings: .env.example. Documentation: README.md, docs/.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 it failed, 2 it was asked for in the wrong way."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding shows a question mark for what it lacks; a command does not end by that.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        # Here, where a reader who left is nothing to complain about.
        sys.stdout.flush()
    except ZapHubError as error:
        sys.stderr.write(f"zh: {error.detail}\n")
        return 1
    except BrokenPipeError:
        # Whoever read it has seen enough. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder of somebody else's: the machine's, and not a defect whose trace would help.
        sys.stderr.write(f"zh: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _run(given: list[str]) -> int:
    if not given or given[0] in {"help", "-h", "--help"}:
        sys.stdout.write(_OVERVIEW)
        return 0
    if given[0] in _HANDED_ON:
        return _HANDED_ON[given[0]](given[1:])
    parser, names = _parser()
    if given[0] not in names:
        return _unknown(given[0], {*names, *_HANDED_ON})
    options, rest = parser.parse_known_args(given)
    if rest and not options.takes_rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    handler: Handler = options.handler
    return handler(options)


def _unknown(name: str, names: Collection[str]) -> int:
    close = get_close_matches(name, names, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    sys.stderr.write(f"zh: there is no command {name}.{meant} ./zh help names them all.\n")
    return _WRONG


def _parser() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """The parser of the commands that take options of ours, and their names."""
    parser = argparse.ArgumentParser(prog="zh", add_help=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, handler: Handler, text: str, *, takes_rest: bool = False) -> argparse.ArgumentParser:
        # A part's own program answers --help, as it takes the options.
        made = commands.add_parser(name, help=text, description=text, add_help=not takes_rest, allow_abbrev=False)
        made.set_defaults(handler=handler, takes_rest=takes_rest)
        return made

    _add_up(command("up", _up, "Run everything in one supervisor until Ctrl-C."))
    command("check", _check, "Check format, lint, types and import rules.")
    _add_data_dir(command("doctor", _doctor, "Say what is wrong with this set-up and what mends it."))
    _add_data_dir(command("migrate", _migrate, "Bring the database's schema up to date."))
    parts = {
        "api": "Run the HTTP API alone; takes uvicorn's options.",
        "worker": "Run one worker alone; takes the options of taskiq worker.",
        "scheduler": "Run the scheduler alone; takes the options of taskiq scheduler.",
        "session-host": "Run a session host alone.",
    }
    for name, text in parts.items():
        _add_data_dir(command(name, _one_part, text, takes_rest=True)).set_defaults(part=name)
    _add_keys(command("keys", _keys, "Make, list and revoke API keys."))
    return parser, commands.choices.keys()


def _add_data_dir(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--data-dir", type=Path, metavar="D", help="the data folder; .zaphub here unless set")
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    _add_data_dir(parser)
    parser.add_argument("--host", metavar="H", help="the address the API listens on; 127.0.0.1 unless set")
    parser.add_argument("--port", type=_port, metavar="P", help="the API's port; 8000, or a free one if that is taken")
    parser.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="how many workers; 1. 0: they run elsewhere"
    )
    parser.add_argument("--fake-whatsapp", action="store_true", help="use a fake WhatsApp server on this machine")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="keep URLs, admin key and pids in F, as JSON")
    parser.add_argument("--transport", choices=("redis", "sqs"), default="redis", help="what carries the bell; redis")
    parser.add_argument("--lambda", dest="use_lambda", action="store_true", help="run the functions in a local Lambda")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"a port is 0 (any free one) to {_LAST_PORT}")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError("it takes 0 or more")
    return count


def _add_keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = _add_data_dir(actions.add_parser("create", help="make a key and show it once"))
    create.add_argument("--name", required=True, metavar="N")
    create.add_argument("--scopes", required=True, metavar="S[,S]", help="e.g. messages:write,connections:read")
    create.add_argument("--connections", metavar="ID[,ID]", help="only these connections; all unless given")
    _add_data_dir(actions.add_parser("list", help="show every key but its secret"))
    revoke = _add_data_dir(actions.add_parser("revoke", help="refuse a key from now on"))
    revoke.add_argument("id", metavar="ID")


def _up(options: argparse.Namespace) -> int:
    from local.up import up
    from local.up_plan import UpOptions

    return up(
        UpOptions(
            host=options.host,
            port=options.port,
            data_dir=options.data_dir,
            ready_file=options.ready_file,
            workers=options.workers,
            with_fake_whatsapp=options.fake_whatsapp,
            with_sqs=options.transport == "sqs" or options.use_lambda,
            with_lambda=options.use_lambda,
        )
    )


def _one_part(options: argparse.Namespace) -> int:
    from local.one_part import run_part

    return run_part(options.part, options.rest, data_dir=options.data_dir)


def _migrate(options: argparse.Namespace) -> int:
    from local.one_part import migrate

    return migrate(data_dir=options.data_dir)


def _keys(options: argparse.Namespace) -> int:
    from local.keys import keys

    return keys(options)


def _doctor(options: argparse.Namespace) -> int:
    from local.doctor import doctor

    return doctor(data_dir=options.data_dir)


def _check(_options: argparse.Namespace) -> int:
    from local.check import check

    return check()


def _test(arguments: list[str]) -> int:
    # Paths are as the caller typed them, so the working folder stays; pytest finds its settings from the checkout.
    where = [] if Path.cwd() == CHECKOUT else ["--rootdir", str(CHECKOUT), "-c", str(CHECKOUT / "pyproject.toml")]
    _become("pytest", *where, *arguments)


def _demo(arguments: list[str]) -> int:
    return _elsewhere("local.demo.main", arguments, name="demo")


def _backup(arguments: list[str]) -> int:
    return _elsewhere("local.backup.backup", arguments, name="backup")


def _restore(arguments: list[str]) -> int:
    return _elsewhere("local.backup.restore", arguments, name="restore")


def _bench(arguments: list[str]) -> int:
    return _elsewhere("local.bench.main", arguments, name="bench")


def _fake_whatsapp(arguments: list[str]) -> int:
    _become("local.fake_whatsapp", *arguments)


def _become(module: str, *arguments: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own programs


def _elsewhere(module: str, arguments: list[str], *, name: str) -> int:
    """Run `main(arguments)` of a module that a version may lack."""
    # A dependency installs a package called tests, which would otherwise be found before ours.
    sys.path.insert(0, str(CHECKOUT))
    try:
        is_here = find_spec(module) is not None
    except ModuleNotFoundError:
        is_here = False
    if not is_here:
        return _absent(name)
    run: Callable[[list[str]], int] = import_module(module).main
    return run(arguments)


def _absent(what: str) -> int:
    sys.stderr.write(f"zh: {what}: not in this version.\n")
    return _NOT_HERE


# These take what follows as it is, `--help` included.
_HANDED_ON: dict[str, Callable[[list[str]], int]] = {
    "backup": _backup,
    "bench": _bench,
    "demo": _demo,
    "fake-whatsapp": _fake_whatsapp,
    "restore": _restore,
    "test": _test,
}


if __name__ == "__main__":
    sys.exit(main())
