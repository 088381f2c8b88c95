"""The README as data: its commands, and its tables as they must be."""

from __future__ import annotations

import re
from pathlib import Path

import click

from byfahrer.cli import cli
from byfahrer.limits import RESOURCES
from sslterm.settings import specs

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def sections() -> dict[str, list[str]]:
    """Headings, and the `sh` blocks under each."""
    found: dict[str, list[str]] = {}
    parts = re.split(r"^## (.+)$", README.read_text(), flags=re.MULTILINE)
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        blocks = re.findall(r"^```sh\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
        if blocks:
            found[heading] = blocks
    return found


def table(name: str) -> str:
    """What stands between the markers of a generated table."""
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", README.read_text(), flags=re.DOTALL)
    assert found, name
    return found[1]


def _rows(*rows: tuple[str, ...]) -> str:
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def settings_table() -> str:
    rows = [("flag", "environment", "label", "default", "meaning"), ("---",) * 5]
    for spec in specs():
        rows.append(
            (
                f"`--{spec.name}`" + (f", `-{spec.short}`" if spec.short else ""),
                ", ".join(f"`{name}`" for name in spec.variables),
                f"`byfahrer.{spec.label}`" if spec.label else "",
                f"`{spec.default}`" if spec.default else "none",
                spec.help,
            )
        )
    return _rows(*rows)


def labels_table() -> str:
    return _rows(
        ("label", "meaning"),
        ("---", "---"),
        ("`byfahrer.proxy-image`", "Image of the sidecar, usually `sslterm`. Its presence asks for one."),
        ("`byfahrer.enable`", "`false`: no sidecar after all, for instance for one container of an annotated service."),
        *(
            (
                f"`byfahrer.{spec.label}`" + (f" or `.{spec.name}`" if spec.label != spec.name else ""),
                f"{spec.help} Accepts {spec.accepts}.",
            )
            for spec in specs()
            if spec.label in ("frontend", "backend", "mode", "tls-profile")
        ),
        (
            "`byfahrer.names`",
            "More DNS names and IP addresses for its certificate, between commas. Not from a label of its image.",
        ),
        ("`byfahrer.leaf-lifetime`", "How long its certificate is good for, 1m to 90d; renewed at half of it."),
        (
            "`byfahrer.client-ca`",
            "Authorities of clients: a PEM file in a volume or bind mount of the target. Default: byfahrer's own.",
        ),
        *(
            (f"`byfahrer.{each.label}`", f"{what} Within the bounds of `{each.flag}`.")
            for each, what in zip(
                RESOURCES,
                (
                    "Memory limit of the sidecar, such as `128m`.",
                    "Most processes and threads in it.",
                    "Most CPUs, such as `1.5`.",
                ),
                strict=True,
            )
        ),
        (
            "`byfahrer.cert`",
            "`secret:NAME`: its own certificate, from a Swarm secret of its service, with the key in it.",
        ),
        ("`byfahrer.key`", "`secret:NAME`: the key, where it is a secret by itself."),
        (
            "`byfahrer.outbound`",
            "Whom its programs call: `:5432=db:8432` leads 127.0.0.1:5432 to `db` over TLS. Not from its image.",
        ),
        ("`byfahrer.cap-add`", "Linux capabilities for it, between commas. Only those of `--allow-capability`."),
        ("`byfahrer.NAME`", "Every other setting of sslterm that has a label in the table below."),
        (
            "`org.qnib.gosslterm.ssl.volume.from`",
            "`true`: use `cert.pem` and `key.pem` from the target's volumes, as in 2017.",
        ),
        ("`org.qnib.gosslterm.ssl.volume.path`", "The folder they are in; default `/opt/qnib/ssl`."),
    )


def injector_table() -> str:
    """Options of the command group, then of `run`."""
    rows = [("flag", "environment", "default", "meaning"), ("---",) * 4]
    for command in (cli, cli.commands["run"]):
        for option in command.params:
            if isinstance(option, click.Option) and option.envvar:
                names = [option.envvar] if isinstance(option.envvar, str) else option.envvar
                default = option.default
                said = re.search(r"\[default: (.+?)[\];]", option.help or "")
                if not default and said:
                    default = said[1]
                if isinstance(default, (list, tuple)):
                    default = ", ".join(map(str, default))
                elif isinstance(default, float):
                    default = f"{default:g}"
                rows.append(
                    (
                        f"`--{option.name.replace('_', '-')}`",
                        ", ".join(f"`{name}`" for name in names),
                        f"`{default}`" if isinstance(default, str) and default else "none",
                        (option.help or "").partition("  [default")[0],
                    )
                )
    return _rows(*rows)


if __name__ == "__main__":  # writes the tables into the README
    text = README.read_text()
    for name, made in (("labels", labels_table()), ("settings", settings_table()), ("injector", injector_table())):
        text = re.sub(
            rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)",
            lambda m, made=made: m[1] + made + m[2],
            text,
            flags=re.DOTALL,
        )
    README.write_text(text)
