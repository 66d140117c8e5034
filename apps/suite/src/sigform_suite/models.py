"""The catalogues of the installed domains, side by side."""

from __future__ import annotations

from collections.abc import Iterable

from sigform_kit.catalogue import Entry, catalogue_of, read_catalogue
from sigform_kit.errors import InputError
from sigform_suite.domains import Domain

COLUMNS = ("verb", "name", "model", "paper", "parameters", "ours", "published")


def installed_models(
    domains: Iterable[Domain],
) -> tuple[list[tuple[Domain, Entry]], list[str]]:
    """Every model with its domain, and a line for each catalogue that cannot be read.

    Imports no domain; one without a catalogue has no models.
    """
    found: list[tuple[Domain, Entry]] = []
    broken: list[str] = []
    for domain in domains:
        path = catalogue_of(domain.package)
        try:
            found += [(domain, entry) for entry in read_catalogue(path)] if path else []
        except InputError as error:
            broken.append(error.message)
    return found, broken


def short(domain: Domain, entry: Entry) -> dict[str, object]:
    """A row of COLUMNS, for a reader."""
    return {
        "verb": domain.verb,
        "name": entry.name,
        "model": entry.model,
        "paper": f"arXiv {entry.paper}" if entry.paper else None,
        "parameters": None if entry.parameters is None else f"{entry.parameters:,}",
        "ours": entry.ours.text() if entry.ours else None,
        "published": entry.published.text() if entry.published else None,
    }


def full(domain: Domain, entry: Entry) -> dict[str, object]:
    """All that is known, for a program."""
    return {"verb": domain.verb, "distribution": domain.distribution, **entry.record()}
