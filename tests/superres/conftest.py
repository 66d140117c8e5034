"""What several tests of upscaling need."""

import pytest

from sigform_superres.catalogue import SHIPPED
from sigform_superres.craft import CRAFT
from sigform_superres.networks import load_network


@pytest.fixture(scope="session")
def shipped_craft() -> CRAFT:
    """The shipped CRAFT for twice the size."""
    network, _ = load_network(SHIPPED["craft-x2"])
    assert isinstance(network, CRAFT)
    return network
