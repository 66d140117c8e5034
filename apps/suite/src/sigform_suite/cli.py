"""`sigform VERB ...` hands everything after the verb to the domain that offers it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sigform_kit import App, Common, InputError, LateCommand, UsageError, common_options, run
from sigform_suite.domains import INSTALLABLE, Domain, installed_domains

if TYPE_CHECKING:
    from sigform_kit import Check


class MissingDomain(click.Command):
    """Stands in the help for a domain that is not installed, and says how to install it."""

    def __init__(self, verb: str, distribution: str) -> None:
        self.advice = f"not installed; pip install {distribution}"
        super().__init__(verb, help=self.advice, short_help=self.advice)

    def make_context(self, *_args: Any, **_extra: Any) -> NoReturn:
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
    app.add_command(doctor)
    return app


def list_domains(domains: dict[str, Domain]) -> None:
    """Prints the installed domains, and how to install the others."""
    rows = [
        {"verb": d.verb, "distribution": f"{d.distribution} {d.version}", "job": d.job}
        for d in domains.values()
    ]
    rows += [
        {"verb": verb, "distribution": "not installed", "job": f"pip install {distribution}"}
        for verb, distribution in INSTALLABLE.items()
        if verb not in domains
    ]
    Common().console.table(rows, ["verb", "distribution", "job"])
    click.echo("\n'sigform VERB --help' tells more.")


@click.command()
@common_options("json")
def doctor(common: Common) -> int:
    """Check this machine and every installed domain."""
    from sigform_kit.doctor import cache_folder, run_checks, standard_checks

    checks = list(standard_checks("sigform", "sigform-kit", cache=cache_folder()))
    checks += [partial(check_domain, domain) for domain in installed_domains()]
    return run_checks(checks, common.console)


def check_domain(domain: Domain) -> Check:
    """Does the domain's command load?"""
    from sigform_kit import Check

    name = f"{domain.distribution} {domain.version}"
    try:
        LateCommand(domain.verb, domain.target, domain.job).load()
    except InputError as error:
        advice = f"pip install --force-reinstall {domain.distribution}"
        return Check(name=name, status="fail", detail=error.message, advice=advice)
    detail = f"loads; 'sigform {domain.verb} doctor' checks more"
    return Check(name=name, status="ok", detail=detail)


def main() -> int:
    """The console script; returns the exit code."""
    return run(make_app())
