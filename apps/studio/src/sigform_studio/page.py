"""The page: a tab for each domain, with how to install those that are not here."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass

import gradio as gr

from sigform_studio.desk import Desk

GROUP = "sigform.apps"
"""Entry points of this group are the installed domains, by verb."""


@dataclass(frozen=True)
class Tab:
    """A domain: its verb, the tab's title, the distribution, and the module that builds the tab."""

    verb: str
    title: str
    distribution: str
    module: str
    job: str


TABS = (
    Tab("separate", "Voices", "sigform-speech", "voices", "Separate the speakers of a recording"),
    Tab("upscale", "Pictures", "sigform-superres", "pictures", "Enlarge a picture"),
    Tab("forecast", "Tables", "sigform-forecast", "tables", "Forecast the series of a table"),
    Tab("decode", "EEG", "sigform-eeg", "recordings", "Decode an EEG recording"),
    Tab("generate", "Generate", "sigform-generate", "generation", "Generate pictures and clips"),
)
HEAD = (
    '<div class="sf-head"><b>sigform studio</b><span>Your files stay on this machine, and are '
    "removed when you close the page.</span></div>"
)


def installed_verbs() -> set[str]:
    """The verbs of the domains that are installed; imports none of them."""
    return {entry.name for entry in importlib.metadata.entry_points(group=GROUP)}


def build_page(desk: Desk, verbs: set[str] | None = None) -> gr.Blocks:
    """The page with a tab for each domain; `verbs` are those installed, found when None."""
    have = installed_verbs() if verbs is None else verbs
    with gr.Blocks(title="sigform studio", analytics_enabled=False) as page:
        gr.HTML(HEAD)
        with gr.Tabs():
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.verb, elem_id=f"tab-{tab.verb}"):
                    if tab.verb in have:
                        importlib.import_module(f"sigform_studio.{tab.module}").build(desk)
                    else:
                        gr.HTML(advice(tab))

        def leave(request: gr.Request) -> None:
            desk.visits.end(request.session_hash or "")

        page.unload(leave)
    return page


def advice(tab: Tab) -> str:
    """What stands in the tab of a domain that is not installed."""
    return (
        f'<p class="sf-lead">{tab.job}: not installed. '
        f"<code>pip install {tab.distribution}</code>, then start the studio again.</p>"
    )
