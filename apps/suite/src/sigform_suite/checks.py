"""What `sigform doctor` looks at beyond the machine: the domains that are installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import click

from sigform_kit.commands import LateCommand
from sigform_kit.doctor import Check, cache_folder, standard_checks
from sigform_kit.errors import InputError
from sigform_suite.domains import Domain, installed_domains


def all_checks() -> Iterator[Callable[[], Check]]:
    """The machine first, then a check for each domain."""
    yield from standard_checks("sigform", "sigform-kit", cache=cache_folder())
    domains = installed_domains()
    if importlib.util.find_spec("torch") is None and domains:
        yield no_torch
    if not domains:
        yield no_domain
    for domain in domains:
        yield partial(check_domain, domain)


def no_torch() -> Check:
    """Every domain brings torch along, so that it was taken away."""
    return Check(
        name="torch",
        status="fail",
        detail="not installed",
        advice="pip install 'torch>=2.11,<2.15'",
    )


def no_domain() -> Check:
    """There is nothing to do without a domain."""
    advice = "pip install one, such as sigform-forecast; 'sigform' lists them"
    return Check(name="domains", status="warn", detail="none is installed", advice=advice)


def check_domain(domain: Domain) -> Check:
    """Does the domain's command load, and was it released together with this command?"""
    name = f"{domain.distribution} {domain.version}"
    try:
        command = LateCommand(domain.verb, domain.target, domain.job).load()
    except InputError as error:
        advice = f"pip install --force-reinstall {domain.distribution}"
        return Check(name=name, status="fail", detail=error.message, advice=advice)
    ours = importlib.metadata.version("sigform")
    if domain.distribution.startswith("sigform-") and domain.version != ours:
        detail = f"loads, but sigform is {ours}"
        advice = f"pip install --upgrade sigform {domain.distribution}"
        return Check(name=name, status="warn", detail=detail, advice=advice)
    more = isinstance(command, click.Group) and "doctor" in command.commands
    detail = f"loads; 'sigform {domain.verb} doctor' checks more" if more else "loads"
    return Check(name=name, status="ok", detail=detail)
