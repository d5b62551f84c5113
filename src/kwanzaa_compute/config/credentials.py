"""What a credential looks like, so that none is read from a file that is copied around."""

import re
from typing import Final

MEND: Final = (
    "remove it, replace the credential if this file was ever shared, and set it in the "
    "environment instead (for example HF_TOKEN or RUNPOD_API_KEY)"
)

_VALUE: Final = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{16,}                       # Hugging Face
    | \bapi_org_[A-Za-z0-9]{16,}
    | \brpa_[A-Za-z0-9]{16,}                      # RunPod
    | \bsecret_[A-Za-z0-9_.-]{16,}                # Lambda
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}                # AWS
    | \bsk-[A-Za-z0-9_-]{20,}
    | \bgh[opsur]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bxox[abprs]-[A-Za-z0-9-]{10,}
    | \bAIza[A-Za-z0-9_-]{30,}                    # Google
    | \beyJ[A-Za-z0-9_-]{10,300}\.eyJ                # a JSON web token
    | \bhooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{8,}
    | \bdiscord(?:app)?\.com/api/webhooks/[0-9]{6,}/[A-Za-z0-9_-]{8,}
    | \bwebhook\.office\.com/webhookb2/[A-Za-z0-9@/-]{8,}
    | -----BEGIN\ [A-Z ]{0,40}PRIVATE\ KEY
    | \b[a-z][a-z0-9+.-]{0,20}://[^/\s:@"']{0,200}:[^/\s@"']{1,200}@   # a URL with a password
    | [?&](?:sig|x-amz-signature|x-goog-signature|access_token|token|api_key)=[^\s&"']{8,}
    """,
    re.VERBOSE,
)
_SIGNED_URL: Final = re.compile(
    r"[?&](?:sig|x-amz-signature|x-goog-signature)=[^\s&\"']{8,}", re.IGNORECASE
)
_NAME: Final = re.compile(
    r"(?:^|_)(?:api_?key|access_?key(?:_id)?|secret|secret_?key|secret_access_key|token"
    r"|password|passwd|credentials?|private_?key|account_?key|connection_string|webhook(?:_url)?)$"
)


def looks_like_a_credential(text: str) -> bool:
    """Whether a text holds something that has the shape of a credential."""
    return bool(_VALUE.search(text) or _SIGNED_URL.search(text))


def names_a_credential(key: str) -> bool:
    """Whether a key's name says that its value is a credential."""
    return bool(_NAME.search(key.lower().replace("-", "_")))
