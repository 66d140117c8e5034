"""Which domains there are, told without importing any of them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

GROUP = "sigform.apps"
"""Entry points of this group name a verb and its Click command."""

INSTALLABLE = {
    "decode": "sigform-eeg",
    "forecast": "sigform-forecast",
    "generate": "sigform-generate",
    "separate": "sigform-speech",
    "studio": "sigform-studio",
    "upscale": "sigform-superres",
}
"""What there is to install: verb and distribution."""

JOBS = {
    "decode": "Decode EEG recordings and streams.",
    "forecast": "Forecast a table of time series.",
    "generate": "Generate images, video, and video with sound.",
    "separate": "Separate the speakers in an audio file.",
    "studio": "A page on this machine over the installed domains.",
    "upscale": "Make pictures and videos 2, 3 or 4 times larger.",
}
"""What each is for, told where it is not installed."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """An installed domain: its verb, where its command is, and what its distribution says.

    `commands` are its console scripts.
    """

    verb: str
    target: str
    distribution: str
    version: str
    job: str
    commands: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The package that the command is in."""
        return self.target.partition(":")[0].partition(".")[0]


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
            commands=tuple(
                script.name
                for script in entry.dist.entry_points
                if script.group == "console_scripts"
            ),
        )
        rival = found.get(domain.verb)
        if rival is None or domain.distribution < rival.distribution:
            found[domain.verb] = domain
    return sorted(found.values(), key=lambda domain: domain.verb)
