"""
The command line for people: help, completion, and complaints about what it cannot read.

Options are made from the settings themselves, so none can be missing here or differ. Everything that can be wrong with
the configuration becomes one line on stderr and exit code 2; 0 is "stopped when asked", 1 all else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from sslterm import __version__, check, serve
from sslterm.settings import Spec, specs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECTIONS: Final = {
    "Where": ("frontend-addr", "backend-addr", "mode", "redirect-addr", "trusted-proxies", "hand-over", "workers"),
    "Certificate": ("cert", "key", "cert-dir", "tls-profile", "authority", "authority-token"),
    "Clients": ("client-auth", "client-ca", "allow"),
    "ACME": ("acme", "acme-directory", "acme-email", "acme-ca", "acme-dir", "acme-challenge"),
    "PROXY protocol": ("accept-proxy", "send-proxy", "proxy-spiffe-type"),
    "Logs": ("log-level", "log-format", "access-log"),
}
_REST: Final = "Limits"

_METAVARS: Final = {
    "host": "ADDR", "a path to a folder": "DIR", "a path": "FILE",
    "a duration": "TIME", "a size": "SIZE", "a whole": "N", "networks": "NETS",
    "DNS": "NAMES", "all, or": "WHO", "letsencrypt": "URL", "an e-mail": "EMAIL",
}  # fmt: skip
"""What stands for a value in the help, by how `Spec.accepts` begins; the others list their choices."""

_ABOUT: Final = """
Terminate TLS in a container's network namespace, onto its loopback port.

Every option can be given by the environment variables named with it; a flag wins.
"""

_EXAMPLES: Final = """\b
Examples:
  sslterm --frontend-addr :8443 --backend-addr 127.0.0.1:8080
      HTTPS on port 8443 of every address, with a self-signed certificate.
  sslterm --cert /run/secrets/site.crt --key /run/secrets/site.key
      A certificate of your own; replaced files are taken up without a restart.
  sslterm --mode tcp --frontend-addr :6380 --backend-addr 127.0.0.1:6379
      Any protocol, here redis.
  docker run --network=container:www sslterm --backend-addr auto
      TLS for the container www, in front of the one port that it listens on.

\b
Exit codes: 0 stopped when asked, 2 bad configuration, 1 all else.
SIGTERM finishes the requests under way, SIGHUP reads the certificate again.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command that `argv` (canonical, without the program's name) asks for; the exit code."""
    try:
        outcome = _command().main(args=list(argv), prog_name="sslterm", standalone_mode=False)
    except click.ClickException as error:
        sys.stderr.write(f"sslterm: {' '.join(error.format_message().split())}\n")
        return 2
    return int(outcome or 0)


class _Sections(click.Group):
    """A group whose help lists the options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        place = {name: section for section, names in _SECTIONS.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in (*_SECTIONS, _REST, "Other")}
        known = {spec.attribute: spec for spec in specs()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and parameter.name in known:
                rows[place.get(known[parameter.name].name, _REST)].append(record)
            elif record:
                rows["Other"].append(record)
        for section, records in rows.items():
            with formatter.section(section):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)


def _command() -> click.Group:
    group = _Sections(
        "sslterm",
        help=_ABOUT,
        epilog=_EXAMPLES,
        params=_options(),
        invoke_without_command=True,
        subcommand_metavar="[COMMAND]",
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
        callback=click.pass_context(_start),
    )
    click.version_option(__version__, "--version", "-v", prog_name="sslterm", message="%(prog)s %(version)s")(group)
    group.add_command(
        click.Command(
            "check",
            help="Exit with 0 if the sidecar in this network namespace answers TLS, else with 1 and the reason.",
            short_help="Ask the sidecar beside this process whether it answers TLS.",
            params=_options("frontend-addr"),
            callback=click.pass_context(_check),
        )
    )
    return group


def _options(*only: str) -> list[click.Parameter]:
    return [_option(spec) for spec in specs() if not only or spec.name in only]


def _option(spec: Spec) -> click.Option:
    names = [f"--{spec.name}", *([f"-{spec.short}"] if spec.short else [])]
    hints = f"[{', '.join(spec.variables)}" + (f"; default {spec.default}]" if spec.default else "]")
    return click.Option(names, help=f"{spec.help} {hints}", metavar=_metavar(spec))


def _metavar(spec: Spec) -> str:
    found = next((word for start, word in _METAVARS.items() if spec.accepts.startswith(start)), None)
    return found or spec.accepts.replace(" or ", ", ").replace(", ", "|")


def _given(values: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in values.items() if value is not None}


def _start(ctx: click.Context, **values: str | None) -> int | None:
    return None if ctx.invoked_subcommand else serve.main(_given(values))


def _check(ctx: click.Context, **values: str | None) -> int:
    above = ctx.parent.params if ctx.parent else {}
    return check.main(_given(above) | _given(values))
