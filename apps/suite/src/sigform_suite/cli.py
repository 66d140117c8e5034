"""`sigform VERB ...` hands everything after the verb to the domain that offers it."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from sigform_kit import App, Common, InputError, UsageError, common_options, run
from sigform_suite.domains import INSTALLABLE, JOBS, Domain, installed_domains


class MissingDomain(click.Command):
    """Stands in the help for a domain that is not installed, and says how to install it."""

    def __init__(self, verb: str, distribution: str) -> None:
        self.advice = f"not installed; pip install {distribution}"
        super().__init__(verb, help=self.advice, short_help=self.advice)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if extra.get("resilient_parsing"):
            return super().make_context(info_name, args, parent, **extra)
        raise UsageError(f"{self.name}: {self.advice}")


def make_app() -> App:
    """The `sigform` command over what is installed now; imports no domain."""
    domains = {domain.verb: domain for domain in installed_domains()}
    app = App(
        "sigform",
        help="Transformer applications for signals, one verb for each domain.",
        distribution="sigform",
        bare=partial(list_domains, domains),
    )
    for domain in domains.values():
        app.late(domain.verb, domain.target, domain.job)
    for verb, distribution in INSTALLABLE.items():
        if verb not in domains:
            app.add_command(MissingDomain(verb, distribution))
    for command in (models, doctor, completion):
        app.add_command(command)
    return app


def list_domains(domains: dict[str, Domain]) -> None:
    """Prints the installed domains, and how to install the others."""
    rows = [
        {"verb": d.verb, "distribution": f"{d.distribution} {d.version}", "job": d.job}
        for d in domains.values()
    ]
    rows += [
        {
            "verb": verb,
            "distribution": "not installed",
            "job": f"{JOBS[verb]} pip install {distribution}",
        }
        for verb, distribution in INSTALLABLE.items()
        if verb not in domains
    ]
    Common().console.table(rows, ["verb", "distribution", "job"])
    click.echo("\n'sigform VERB --help' tells more.")


@click.command(short_help="List the models of all installed domains.")
@click.argument("verbs", nargs=-1, metavar="[VERB]...")
@common_options("json")
def models(verbs: tuple[str, ...], common: Common) -> int:
    """List the models of all installed domains, or of those named.

    Beside each: the paper, its parameters, what ours was measured to reach and what was
    published; on other data where that is said. `sigform VERB models` tells more of one domain.
    """
    from sigform_suite.models import COLUMNS, full, installed_models, short

    domains = installed_domains()
    known = [domain.verb for domain in domains]
    for verb in verbs:
        if verb not in known:
            raise UsageError(f"{verb!r} is no installed domain; needs one of {', '.join(known)}")
    entries, broken = installed_models([d for d in domains if not verbs or d.verb in verbs])
    for reason in broken:
        common.console.warn(reason)
    if common.json:
        for domain, entry in entries:
            common.console.result(full(domain, entry), "")
    elif entries:
        common.console.table([short(domain, entry) for domain, entry in entries], COLUMNS)
    elif not broken:
        raise InputError("no models; 'sigform' lists the domains that can be installed")
    return 1 if broken else 0


@click.command()
@common_options("json")
def doctor(common: Common) -> int:
    """Check this machine and every installed domain."""
    from sigform_kit.doctor import run_checks
    from sigform_suite.checks import all_checks

    return run_checks(all_checks(), common.console)


@click.command(short_help="Print what makes a shell complete these commands.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print what makes SHELL complete `sigform` and every domain's command with the Tab key.

    \b
    bash  echo 'eval "$(sigform completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(sigform completion zsh)"' >> ~/.zshrc
    fish  echo 'sigform completion fish | source' >> ~/.config/fish/config.fish
    """
    from sigform_suite.completion import script

    commands = [name for domain in installed_domains() for name in domain.commands]
    click.echo(script(shell, ["sigform", *commands]))


def main() -> int:
    """The console script; returns the exit code."""
    return run(make_app())
