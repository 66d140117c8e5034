"""Which domains there are, told without importing any of them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

GROUP = "sigform.apps"
"""Entry points of this group name a verb and its Click command."""

INSTALLABLE = {
    "decode": "sigform-eeg",
    "forecast": "sigform-forecast",
    "separate": "sigform-speech",
    "upscale": "sigform-superres",
}
"""The published domains: verb and distribution."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """An installed domain: its verb, where its command is, and what its distribution says."""

    verb: str
    target: str
    distribution: str
    version: str
    job: str


def installed_domains() -> list[Domain]:
    """The installed domains by verb. Of two with one verb, the first distribution by name."""
    found: dict[str, Domain] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.dist is None:
            continue
        # A half-removed distribution says nothing about itself, but may still work.
        metadata = entry.dist.metadata.json
        domain = Domain(
            verb=entry.name,
            target=entry.value,
            distribution=str(metadata.get("name", entry.module)),
            version=str(metadata.get("version", "of unknown version")),
            job=" ".join(str(metadata.get("summary", "")).split()),
        )
        rival = found.get(domain.verb)
        if rival is None or domain.distribution < rival.distribution:
            found[domain.verb] = domain
    return sorted(found.values(), key=lambda domain: domain.verb)
