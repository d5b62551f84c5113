"""The one QLoRA trainer that every provider's machine runs: `python -m kwanzaa_trainer run URL`."""

__version__ = "0.1.0"
