"""AWS's own containers with PyTorch, by region, as the `sagemaker` SDK's tables name them.

Whatever of our locked packages such an image lacks is installed when the machine starts, so the
image has to bring Python 3.11 or newer, pip and a driver-compatible CUDA, and no more.
"""

from collections.abc import Mapping
from types import MappingProxyType

from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute_sagemaker.settings import IMAGE

REPOSITORY = "pytorch-training"
TAG = "2.9.0-gpu-py312"
MOST = "763104351884"
_MOST_REGIONS = """
    ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-1 ap-southeast-2 ca-central-1 eu-central-1
    eu-north-1 eu-west-1 eu-west-2 eu-west-3 sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2
"""
ACCOUNTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_MOST_REGIONS.split(), MOST),
        "af-south-1": "626614931356",
        "ap-east-1": "871362719292",
        "ap-east-2": "975050140332",
        "ap-northeast-3": "364406365360",
        "ap-south-2": "772153158452",
        "ap-southeast-3": "907027046896",
        "ap-southeast-4": "457447274322",
        "ap-southeast-5": "550225433462",
        "ap-southeast-6": "633930458069",
        "ap-southeast-7": "590183813437",
        "ca-west-1": "204538143572",
        "cn-north-1": "727897471807",
        "cn-northwest-1": "727897471807",
        "eu-central-2": "380420809688",
        "eu-south-1": "692866216735",
        "eu-south-2": "503227376785",
        "il-central-1": "780543022126",
        "me-central-1": "914824155844",
        "me-south-1": "217643126080",
        "mx-central-1": "637423239942",
        "us-gov-east-1": "446045086412",
        "us-gov-west-1": "442386744353",
    }
)
"""The account that holds AWS's containers in each region. A test reads the SDK's own table."""


def image_for(region: str) -> str:
    """The container in this region. Raises `InvalidRequestError` where we know of none."""
    if region not in ACCOUNTS:
        raise InvalidRequestError(
            f"SageMaker: no PyTorch container of AWS's is known in {region}",
            mend=f"set {IMAGE} to an image in your own ECR",
            nothing_was_created=True,
        )
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.{domain}/{REPOSITORY}:{TAG}"
