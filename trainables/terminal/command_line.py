"""Holds what all command lines share: exit codes and how errors are shown.

Exit codes: 0 success; 1 failure, or a bug of ours; 2 a user's mistake; 130 interrupted. Each ends
in one message. The traceback behind it is shown with `--debug`, which every command takes, or where
the environment has DISPARSE_DEBUG.
"""

import contextlib
import itertools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trainables.errors import Failure, UserError, is_full_disk, is_out_of_memory
from trainables.terminal.answers import STDOUT, only_answers
from trainables.terminal.as_typed import in_text
from trainables.terminal.installed import lacking
from trainables.terminal.refused_values import plainly_refused
from trainables.terminal.standard_streams import outlast_readers
from trainables.user_code import SEE_TRACEBACK, bug

EXIT_FAILURE = 1
EXIT_USER_MISTAKE = 2
EXIT_INTERRUPTED = 130
_DEBUG = "DISPARSE_DEBUG"
_ANSWERS = "disparse.json"  # in a context's `meta`: whether standard output is for JSON

# `scheme://user:password@`. In an http or object-store address the password ends before the first
# slash. A database's driver takes everything up to the `@`, slashes included.
_PASSWORD = re.compile(
    r"((?:https?|s3|gs)://[^\s/?#:@]*):[^\s/?#]*@"
    r"|((?!https?:|s3:|gs:)\b[a-z][a-z0-9+.\-]*://[^\s/?#:@]*):\S*@",
    re.IGNORECASE,
)

# `?password=…`, `&sslpassword=…`, `&access_token=…`
_SECRET_ARGUMENT = re.compile(
    r"([?&][\w.\-]*(?:password|passwd|pwd|token|secret)[\w.\-]*=)[^&#\s'\"]+", re.IGNORECASE
)


class Commands(TyperGroup):
    """Gives the command lines the same flags and layout.

    Every command takes `-h`, `-q` and `--debug`, and the command line itself `--version`. A
    `--json` alone is `--json -`. Lists of commands are never cut off.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.context_settings["help_option_names"] = ["-h", "--help"]
        self.params += [*_lent(_versioned), *_lent(_debuggable)]
        for command in self.commands.values():
            command.help, command.epilog = map(in_text, (command.help, command.epilog))
            command.context_settings["help_option_names"] = ["-h", "--help"]
            quiet = [option for option in command.params if "--quiet" in option.opts]
            for option in quiet:
                option.opts += [] if "-q" in option.opts else ["-q"]
            command.params += [*([] if quiet else _lent(_quietable)), *_lent(_debuggable)]

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Run, under the name by which this was called or has to be called."""
        return super().main(*arguments, **{**named, "prog_name": in_text(self.name)})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; `--json` without a file prints."""
        args = _with_json_files(args)
        pairs = itertools.pairwise(args)
        ctx.meta[_ANSWERS] = ("--json", STDOUT) in pairs or f"--json={STDOUT}" in args
        return super().parse_args(ctx, args)

    @plainly_refused()
    def invoke(self, ctx: Any) -> Any:
        """Run the command; where standard output is for JSON, what else is printed goes aside."""
        if not ctx.meta[_ANSWERS]:
            return super().invoke(ctx)
        with only_answers():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command does: its first paragraph, whole."""
        rows = [
            (name, " ".join((command.help or "").partition("\n\n")[0].split()))
            for name, command in self.commands.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _lent(function: Callable[..., None]) -> list[Any]:
    """Return the options of a function, which Typer makes from its parameters."""
    lender = typer.Typer(add_completion=False)
    lender.command()(function)
    return list(typer.main.get_command(lender).params)


def _with_json_files(args: Sequence[str]) -> list[str]:
    """Put `-` behind a `--json` that nothing follows, or another option does."""
    found: list[str] = []
    for place, word in enumerate(args):
        found.append(word)
        following = args[place + 1 : place + 2]
        if word == "--json" and (not following or following[0][:1] == "-" != following[0]):
            found.append("-")
    return found


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"disparse-search {version('disparse-search')}")
        raise typer.Exit


def _versioned(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            expose_value=False,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Hold the option of every command line."""


def _quietable(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", expose_value=False, help="Here without effect: this prints its answer."
        ),
    ] = False,
) -> None:
    """Hold the option of the commands that do nothing but answer."""


def _switch_debug(wanted: bool) -> None:
    if wanted:
        os.environ[_DEBUG] = "1"  # by environment, so that processes of this one hear of it


def _debuggable(
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_switch_debug,
            expose_value=False,
            help="Show the traceback behind an error. Or set DISPARSE_DEBUG=1.",
        ),
    ] = False,
) -> None:
    """Hold the option of every command."""


def run_command_line(main: Callable[[], object]) -> None:
    """Run a command line's entry point and turn its errors into a message and an exit code."""
    outlast_readers()
    try:
        _run(main)
    except UserError as error:
        _leave(f"error: {in_text(str(error))}", EXIT_USER_MISTAKE)
    except Failure as error:
        _leave(f"failed: {in_text(str(error))}", EXIT_FAILURE)
    except KeyboardInterrupt:
        _leave("interrupted", EXIT_INTERRUPTED)
    except SystemExit as ended:
        if ended.code == EXIT_INTERRUPTED:
            # A second Ctrl-C during cleanup would only add a traceback.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
                _leave("interrupted", EXIT_INTERRUPTED)  # Typer prints nothing
        raise
    except ModuleNotFoundError as error:  # of what loads late
        message = lacking(error)
        _leave(message or bug(error), EXIT_USER_MISTAKE if message else EXIT_FAILURE)
    except PermissionError as error:  # of whatever path a user gave, ours being their own
        if error.filename is None:
            _leave(_failure(error), EXIT_FAILURE)
        _leave(
            f"error: {str(error.filename)!r} cannot be used ({error.strerror}); check its "
            f"permissions, and those of its folder; {SEE_TRACEBACK}",
            EXIT_USER_MISTAKE,
        )
    except BaseException as error:
        _leave(_failure(error), EXIT_FAILURE)


def _run(main: Callable[[], object]) -> None:
    """Run an entry point, and write its output before Python ends, where errors are not caught."""
    try:
        main()
    except SystemExit:  # as Typer ends, also well
        _flush()
        raise
    _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # What cannot be written would be tried again, and complained of, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _failure(error: BaseException) -> str:
    """Return the message for an error that no code expected."""
    if isinstance(error, OSError) and is_full_disk(error):
        return f"failed: no space left on the disk ({error}); free some and resume"
    if is_out_of_memory(error):
        return f"failed: out of memory ({str(error) or type(error).__name__}); {SEE_TRACEBACK}"
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"failed: {error.filename!r} cannot be used ({error.strerror}); check that it is "
            f"there, and its permissions; {SEE_TRACEBACK}"
        )
    return bug(error)


def _leave(message: str, code: int) -> None:
    error = sys.exception()
    if os.environ.get(_DEBUG) and error is not None:
        traceback.print_exception(error)
    print(message, file=sys.stderr)
    with contextlib.suppress(OSError):
        _flush()
    raise SystemExit(code)


def masked(uri: str) -> str:
    """Return `uri`, or any text with addresses in it, with `***` for every password.

    Use it for everything that is printed, written or shown. Text without a password is returned
    unchanged.
    """
    hidden = _PASSWORD.sub(lambda match: f"{match[1] or match[2]}:***@", uri)
    return _SECRET_ARGUMENT.sub(r"\1***", hidden)


def typed_command(package: str) -> list[str]:
    """Return the command line of `python -m PACKAGE`, without passwords.

    With `python` for whatever Python it is: who repeats it may have another one.
    """
    return ["python", "-m", package, *map(masked, sys.argv[1:])]


def parse_settings(
    items: Sequence[str],
    *,
    form: str = "key=value",
    example: str = "optimiser.learning_rate=0.001",
) -> dict[str, str]:
    """Parse `["a=1", "b.c=x"]` into `{"a": "1", "b.c": "x"}`; raise `UserError` for other forms.

    Of two values for one name the last holds, which is said on standard error.
    """
    settings: dict[str, str] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise UserError(f"`--set` takes {form}, got {item!r}; e.g. --set {example}")
        before = settings.get(name.strip(), value.strip())
        if before != value.strip():
            print(
                f"note: --set {name.strip()} is given more than once; {value.strip()} comes after "
                f"{before} and holds",
                file=sys.stderr,
            )
        settings[name.strip()] = value.strip()
    return settings


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Parse "120x160" into (height, width) in pixels; raise `UserError` for other forms."""
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdecimal() or not width.isdecimal():
        raise UserError(f"`{option}` must be HEIGHTxWIDTH, got {text!r}; e.g. 120x160")
    return int(height), int(width)
