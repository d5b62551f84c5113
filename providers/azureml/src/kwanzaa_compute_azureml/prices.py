"""Temporary."""
from kwanzaa_compute_azureml.shapes import SHAPES
SPOT = "-spot"


def size_of(offer_id: str) -> str:
    """Temporary."""
    return offer_id.removesuffix(SPOT)
