"""What a training.yaml means: validated, typed, and honest about what is not applied."""

from kwanzaa_compute.config.files import DataFiles, check_data_files, resolve_file
from kwanzaa_compute.config.loading import LoadedConfig, load, load_config, parse
from kwanzaa_compute.config.notes import Note, notes_for
from kwanzaa_compute.config.schema import TrainingConfig, json_schema

__all__ = [
    "DataFiles",
    "LoadedConfig",
    "Note",
    "TrainingConfig",
    "check_data_files",
    "json_schema",
    "load",
    "load_config",
    "notes_for",
    "parse",
    "resolve_file",
]
