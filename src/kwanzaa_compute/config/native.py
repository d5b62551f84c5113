"""Base models whose original repository needs remote code, and their native twins."""

from typing import Final

NATIVE_TWINS: Final = {
    "allenai/OLMo-1B": "allenai/OLMo-1B-hf",
    "allenai/OLMo-7B": "allenai/OLMo-7B-hf",
    "allenai/OLMo-7B-Twin-2T": "allenai/OLMo-7B-Twin-2T-hf",
    "allenai/OLMo-7B-SFT": "allenai/OLMo-7B-SFT-hf",
    "allenai/OLMo-7B-Instruct": "allenai/OLMo-7B-Instruct-hf",
    "allenai/OLMo-1.7-7B": "allenai/OLMo-1.7-7B-hf",
    "allenai/OLMo-7B-0424": "allenai/OLMo-7B-0424-hf",
}
"""Original repository -> the same weights in the layout of transformers' own class.

The originals run a package of their own (`hf_olmo`) through `trust_remote_code`; the twins were
converted by the same authors and need no code but transformers.
"""


def native_base_model_id(base_model_id: str) -> str:
    """The repository that is really loaded: the native twin where there is one."""
    return NATIVE_TWINS.get(base_model_id, base_model_id)
