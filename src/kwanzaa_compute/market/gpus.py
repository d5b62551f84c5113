"""What each GPU is: memory, number formats, speed and the names that providers give it.

Import-light on purpose: the trainer reads this table on the GPU machine.

Memory in the table is the "total capacity" that CUDA prints in public out-of-memory messages
(drivers differ by up to 0.3 GiB; a small figure is taken, so that a plan never promises too
much); each row says whether such a message was seen. Rates and bandwidth are those of the makers'
data sheets, dense (sparsity not counted). GeForce cards run tensor work with fp32 accumulation at
half their advertised rate: the half stands here. What cards really reach is `speed`'s affair.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

BF16_CAPABILITY = (8, 0)
"""The first compute capability with bfloat16 arithmetic (Ampere)."""

LEAST_REPORTED = 0.88
"""Share of the box's figure that CUDA reports at least, in GiB for GB: 0.91 on a T4."""

CPU_NAME = "CPU"


@dataclass(frozen=True, slots=True)
class GPU:
    """One kind of GPU, as one card of it behaves.

    `vram_gib` is what CUDA reports as the card's total to a program, not what the box says: a
    "24 GB" A10G has 22 GiB. `tflops_bf16` and `tflops_fp16` are dense tensor rates with fp32
    accumulation, zero where the card has none. `bandwidth_tb_s` is memory bandwidth. `arch` is
    the host's processor, "x86" or "arm". `source` says where the figures come from.
    """

    name: str
    aliases: tuple[str, ...]
    vram_gib: float
    compute_capability: tuple[int, int]
    tflops_bf16: float
    tflops_fp16: float
    bandwidth_tb_s: float
    arch: str = "x86"
    source: str = ""

    @property
    def bf16(self) -> bool:
        """Whether the card computes in bfloat16; emulation does not count."""
        return self.compute_capability >= BF16_CAPABILITY

    @property
    def is_cpu(self) -> bool:
        """Whether this stands for a machine without a GPU."""
        return self.name == CPU_NAME

    @property
    def known(self) -> bool:
        """Whether its figures are known; nothing can be planned on a GPU of unknown speed."""
        return self.vram_gib > 0 and max(self.tflops_bf16, self.tflops_fp16) > 0

    def __hash__(self) -> int:
        """Hashes the name alone: a plan hashes every offer's GPU, and equality stays exact."""
        return hash(self.name)


def normalised(name: str) -> str:
    """A GPU's name without case, spaces, punctuation and the maker's decorations."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return "".join(word for word in words if word not in _DECORATIONS)


def find_gpu(name: str, *, box_gb: float | None = None) -> GPU | None:
    """The GPU of that name or alias, whatever its case, spaces and dashes; None if unknown.

    An ambiguous name means the slowest card that bears it ("A100" is the 40 GB one), so that a
    plan never promises more than it gets. `box_gb`, the memory that the box or a price list
    says, tells such cards apart; where it fits no card of that name, the name decides.
    """
    found = _gpus_by_name().get(normalised(name))
    if box_gb is None or (found and _has(found, box_gb)):
        return found
    asked = _words(name)
    family = (gpu for gpu in GPUS if asked and _words(gpu.name)[: len(asked)] == asked)
    return next((gpu for gpu in family if _has(gpu, box_gb)), found)


def _has(gpu: GPU, box_gb: float) -> bool:
    """Whether a card that CUDA reports so much of was sold as having `box_gb`."""
    return LEAST_REPORTED <= gpu.vram_gib / box_gb <= 1 if box_gb > 0 else False


def gpu_matches(gpu: GPU, wanted: str) -> bool:
    """Whether a person who asked for `wanted` means this GPU.

    Asking for "A100" or "H100" means any of that family; "A10" does not mean an A10G or A100.
    """
    if find_gpu(wanted) == gpu or normalised(wanted) == normalised(gpu.name):
        return True
    asked, has = _words(wanted), _words(gpu.name)
    return bool(asked) and has[: len(asked)] == asked


def all_gpus() -> tuple[GPU, ...]:
    """Every GPU of the table, each family from its oldest to its newest."""
    return GPUS


def cpu_device(ram_gib: float, *, cores: int = 1, arch: str = "x86") -> GPU:
    """This machine's processor in the place of a GPU, for a machine that has none.

    `ram_gib` is the memory that training may take. The rate is what a tiny model reaches with
    PyTorch on one core of a server processor of 2022, counted as useful fp32 work.
    """
    tflops = CPU_TFLOPS_PER_CORE * max(1, cores)
    return GPU(
        name=CPU_NAME,
        aliases=(),
        vram_gib=ram_gib,
        compute_capability=(0, 0),
        tflops_bf16=tflops,
        tflops_fp16=tflops,
        bandwidth_tb_s=0.02,
        arch=arch,
        source="measured: a 4-layer model of width 128 trains at 2,000 to 6,000 tokens/s a core",
    )


CPU_TFLOPS_PER_CORE = 0.03
"""Dense fp32 work of one core in PyTorch, in TFLOP/s; small matrices reach a part of it."""


def unknown_gpu(name: str, vram_gib: float = 0.0, arch: str = "x86") -> GPU:
    """A GPU that the table lacks: a driver still lists it, a plan refuses it and says why."""
    return GPU(
        name=name or "unnamed GPU",
        aliases=(),
        vram_gib=vram_gib,
        compute_capability=(0, 0),
        tflops_bf16=0.0,
        tflops_fp16=0.0,
        bandwidth_tb_s=0.0,
        arch=arch,
        source="not in the table",
    )


_DECORATIONS = frozenset(
    {
        "",
        "nvidia",
        "geforce",
        "tesla",
        "quadro",
        "generation",
        "edition",
        "gpu",
        "corporation",
    }
)


def _words(name: str) -> list[str]:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return [word for word in words if word not in _DECORATIONS]


@cache
def _gpus_by_name() -> Mapping[str, GPU]:
    return index_by_name(all_gpus())


def index_by_name(gpus: Iterable[GPU]) -> dict[str, GPU]:
    """Maps every normalised name and alias to its GPU. Raises ValueError if two claim one."""
    found: dict[str, GPU] = {}
    for gpu in gpus:
        for name in (gpu.name, *gpu.aliases):
            other = found.setdefault(normalised(name), gpu)
            if other is not gpu:
                raise ValueError(f"{name!r} names both {other.name} and {gpu.name}")
    return found


_OOM = "memory: seen in public CUDA out-of-memory messages; rates: NVIDIA data sheet"
_USUAL = "memory: as CUDA usually reports it, not looked up; rates: NVIDIA data sheet"
_SHEET = "memory: the box's figure less what ECC and driver take; rates: NVIDIA data sheet"

_TURING, _VOLTA, _A100 = (7, 5), (7, 0), (8, 0)
_AMPERE, _ADA, _HOPPER = (8, 6), (8, 9), (9, 0)
_BLACKWELL, _BLACKWELL_ULTRA, _BLACKWELL_RTX = (10, 0), (10, 3), (12, 0)

# name, aliases, GiB, capability, bf16 TFLOP/s, fp16 TFLOP/s, TB/s, host, source
_Row = tuple[str, tuple[str, ...], float, tuple[int, int], float, float, float, str, str]

# fmt: off
_ROWS: tuple[_Row, ...] = (
    # Before bfloat16
    ("T4", ("Tesla T4", "T4-16GB"), 14.56, _TURING, 0, 65, 0.320, "x86", _OOM),
    ("V100-16GB", ("V100", "Tesla V100-SXM2-16GB", "Tesla V100-PCIE-16GB", "V100-16", "V100 SXM2 16GB", "V100 PCIe 16GB"), 15.77, _VOLTA, 0, 112, 0.900, "x86", _OOM),  # noqa: E501
    ("V100-32GB", ("Tesla V100-SXM2-32GB", "Tesla V100-SXM3-32GB", "Tesla V100-PCIE-32GB", "V100-32", "V100 SXM2 32GB", "V100 PCIe 32GB"), 31.73, _VOLTA, 0, 112, 0.900, "x86", _OOM),  # noqa: E501
    ("Quadro RTX 6000", ("RTX6000", "RTX 6000 24GB"), 23.46, _TURING, 0, 130, 0.672, "x86", _USUAL),
    # Ampere
    ("RTX 3070", ("RTX3070",), 7.78, _AMPERE, 40.6, 40.6, 0.448, "x86", _USUAL),
    ("RTX 3080", ("RTX3080", "RTX 3080 10GB"), 9.77, _AMPERE, 59.5, 59.5, 0.760, "x86", _USUAL),
    ("RTX 3080 Ti", ("RTX3080Ti",), 11.76, _AMPERE, 68.0, 68.0, 0.912, "x86", _USUAL),
    ("RTX 3090", ("RTX3090", "RTX 3090 24GB"), 23.68, _AMPERE, 71, 71, 0.936, "x86", _OOM),
    ("RTX 3090 Ti", ("RTX3090Ti",), 23.68, _AMPERE, 80, 80, 1.008, "x86", _USUAL),
    ("RTX A2000", ("A2000",), 5.79, _AMPERE, 32, 32, 0.288, "x86", _SHEET),
    ("RTX A4000", ("A4000",), 15.73, _AMPERE, 76.7, 76.7, 0.448, "x86", _USUAL),
    ("RTX A4500", ("A4500",), 19.69, _AMPERE, 94.6, 94.6, 0.640, "x86", _USUAL),
    ("RTX A5000", ("A5000",), 23.67, _AMPERE, 111, 111, 0.768, "x86", _USUAL),
    ("RTX A6000", ("A6000 48GB PCIe", "A6000", "A6000-48GB"), 47.41, _AMPERE, 154.8, 154.8, 0.768, "x86", _OOM),  # noqa: E501
    ("A10", ("A10 24GB PCIe", "A10-24GB", "A10 PCIe"), 22.06, _AMPERE, 125, 125, 0.600, "x86", _OOM),  # noqa: E501
    ("A10G", ("A10G-24GB",), 22.06, _AMPERE, 70, 70, 0.600, "x86", "memory: seen in public CUDA out-of-memory messages; rates: the AWS part, not the A10"),  # noqa: E501
    ("A40", ("A40-48GB", "A40 PCIe"), 44.34, _AMPERE, 149.7, 149.7, 0.696, "x86", _OOM),
    ("A30", ("A30-24GB", "A30 PCIe"), 23.50, _A100, 165, 165, 0.933, "x86", _USUAL),
    ("A100-40GB", ("A100", "A100-PCIE-40GB", "A100 PCIe 40GB", "A100 PCIe", "A100-SXM4-40GB", "A100 SXM4 40GB", "A100 SXM 40GB", "A100 40GB SXM4", "A100 40GB PCIe", "A100-40"), 39.38, _A100, 312, 312, 1.555, "x86", _OOM),  # noqa: E501
    ("A100-80GB", ("A100 80GB PCIe", "A100 PCIe 80GB", "A100-PCIE-80GB", "A100-80"), 79.15, _A100, 312, 312, 1.935, "x86", _OOM),  # noqa: E501
    ("A100-80GB SXM", ("A100 80GB SXM4 NVLink", "A100-SXM4-80GB", "A100 SXM 80GB", "A100 SXM", "A100 SXM4", "A100-80GB SXM4"), 79.15, _A100, 312, 312, 2.039, "x86", _OOM),  # noqa: E501
    # Ada Lovelace
    ("RTX 4070 Ti", ("RTX4070Ti",), 11.72, _ADA, 80, 80, 0.504, "x86", _USUAL),
    ("RTX 4080", ("RTX4080",), 15.70, _ADA, 97.5, 97.5, 0.717, "x86", _USUAL),
    ("RTX 4080 SUPER", ("RTX4080SUPER",), 15.70, _ADA, 104, 104, 0.736, "x86", _USUAL),
    ("RTX 4090", ("RTX4090", "RTX 4090 24GB"), 23.52, _ADA, 165, 165, 1.008, "x86", _OOM),
    ("RTX 2000 Ada", ("RTX2000-Ada",), 15.60, _ADA, 48, 48, 0.224, "x86", _USUAL),
    ("RTX 4000 Ada", ("RTX4000-Ada", "RTX 4000 SFF Ada"), 19.55, _ADA, 76.8, 76.8, 0.280, "x86", _USUAL),  # noqa: E501
    ("RTX 5000 Ada", ("RTX5000-Ada",), 31.50, _ADA, 261, 261, 0.576, "x86", _USUAL),
    ("RTX 6000 Ada", ("RTX6000-Ada", "6000 Ada", "RTX6000Ada-48GB"), 47.40, _ADA, 364, 364, 0.960, "x86", _OOM),  # noqa: E501
    ("L4", ("L4-24GB",), 22.03, _ADA, 121, 121, 0.300, "x86", _OOM),
    ("L40", ("L40-48GB",), 44.34, _ADA, 181, 181, 0.864, "x86", _OOM),
    ("L40S", ("L40S-48GB",), 44.34, _ADA, 362, 362, 0.864, "x86", _OOM),
    # Hopper
    ("H100 PCIe", ("H100", "H100-80GB", "H100-PCIE-80GB", "H100 80GB PCIe"), 79.10, _HOPPER, 756, 756, 2.039, "x86", _OOM),  # noqa: E501
    ("H100 SXM", ("H100 80GB SXM5", "H100 80GB HBM3", "H100 SXM5", "H100-SXM5-80GB", "H100-80GB SXM", "H100 SXM5 80GB"), 79.10, _HOPPER, 989, 989, 3.350, "x86", _OOM),  # noqa: E501
    ("H100 NVL", ("H100-NVL-94GB", "H100-94GB"), 93.10, _HOPPER, 835, 835, 3.900, "x86", _OOM),
    ("H200", ("H200-141GB", "H200 SXM", "H200 SXM5", "H200 141GB HBM3e"), 139.72, _HOPPER, 989, 989, 4.800, "x86", _OOM),  # noqa: E501
    ("H200 NVL", ("H200-NVL-141GB",), 139.72, _HOPPER, 835, 835, 4.800, "x86", _SHEET),
    ("GH200", ("GH200-96GB", "GH200 480GB", "GH200 96GB HBM3"), 94.50, _HOPPER, 989, 989, 4.000, "arm", _OOM),  # noqa: E501
    # Blackwell
    ("B200", ("B200 180GB SXM6", "B200 SXM6", "B200-180GB", "B200 SXM"), 178.35, _BLACKWELL, 2250, 2250, 7.700, "x86", _OOM),  # noqa: E501
    ("B300", ("B300 SXM6", "B300 SXM6 AC", "B300-288GB", "B300 SXM"), 267.69, _BLACKWELL_ULTRA, 2250, 2250, 7.700, "x86", _OOM),  # noqa: E501
    ("RTX 5080", ("RTX5080",), 15.47, _BLACKWELL_RTX, 112.6, 112.6, 0.960, "x86", _USUAL),
    ("RTX 5090", ("RTX5090", "RTX 5090 32GB"), 31.36, _BLACKWELL_RTX, 209.5, 209.5, 1.792, "x86", _OOM),  # noqa: E501
    ("RTX PRO 4500", ("RTX PRO 4500 Blackwell", "RTX PRO 4500 Server"), 31.0, _BLACKWELL_RTX, 200, 200, 0.800, "x86", _SHEET),  # noqa: E501
    ("RTX PRO 6000", ("RTX PRO 6000 Blackwell", "RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Server", "RTX PRO 6000 96GB", "RTX PRO 6000 WK", "RTXPRO6000"), 94.97, _BLACKWELL_RTX, 467, 467, 1.597, "x86", _OOM),  # noqa: E501
)
# fmt: on


def _gpu(row: _Row) -> GPU:
    name, aliases, vram_gib, capability, bf16, fp16, bandwidth, arch, source = row
    return GPU(name, aliases, vram_gib, capability, bf16, fp16, bandwidth, arch, source)


GPUS: tuple[GPU, ...] = tuple(_gpu(row) for row in _ROWS)
"""Every GPU that we know."""
