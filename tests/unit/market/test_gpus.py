import pytest

from kwanzaa_compute.market.gpus import (
    GPU,
    all_gpus,
    cpu_device,
    find_gpu,
    gpu_matches,
    index_by_name,
    unknown_gpu,
)

SOLD = (
    "T4 V100-16GB V100-32GB L4 L40 L40S A10 A10G A30 A40 B200 B300 GH200 H200"
    "|RTX 3090|RTX 4090|RTX 5090|RTX A6000|RTX 6000 Ada|RTX PRO 6000|Quadro RTX 6000"
    "|A100-40GB|A100-80GB|A100-80GB SXM|H100 PCIe|H100 SXM|H100 NVL"
)


@pytest.mark.parametrize(
    "name",
    [n for part in SOLD.split("|") for n in (part.split() if part.startswith("T4") else [part])],
)
def test_every_gpu_that_our_providers_sell_is_in_the_table(name):
    gpu = find_gpu(name)
    assert gpu is not None
    assert gpu.name == name


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_every_row_is_plausible_and_names_its_source(gpu: GPU):
    assert gpu.source
    assert 4 < gpu.vram_gib < 300
    assert 0.2 <= gpu.bandwidth_tb_s <= 8
    assert 30 <= gpu.tflops_fp16 <= 2500
    assert (gpu.tflops_bf16 > 0) is gpu.bf16
    assert gpu.bf16 is (gpu.compute_capability >= (8, 0))
    assert gpu.arch == ("arm" if gpu.name == "GH200" else "x86")
    assert find_gpu(gpu.name) is gpu


def test_no_two_gpus_share_a_name_and_two_that_did_would_be_refused():
    index_by_name(all_gpus())
    twin = GPU("Other", ("a-10-g",), 10, (8, 0), 50, 50, 0.5)
    with pytest.raises(ValueError, match="A10G"):
        index_by_name([*all_gpus(), twin])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("NVIDIA A10G", "A10G"),
        ("a10g", "A10G"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("rtx-4090", "RTX 4090"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
    ],
)
def test_providers_and_drivers_names_are_understood(said, meant):
    gpu = find_gpu(said)
    assert gpu is not None
    assert gpu.name == meant


def test_an_ambiguous_name_means_the_slower_card_so_that_no_plan_promises_too_much():
    a100, h100 = find_gpu("A100"), find_gpu("H100")
    assert a100 is not None
    assert h100 is not None
    assert a100.name == "A100-40GB"
    assert h100.name == "H100 PCIe"


@pytest.mark.parametrize(
    ("said", "box_gb", "meant"),
    [
        ("A100", 80, "A100-80GB"),
        ("A100", 40, "A100-40GB"),
        ("Nvidia A100", 80, "A100-80GB"),
        ("V100", 32, "V100-32GB"),
        ("H100", 94, "H100 NVL"),
        ("A10G", 24, "A10G"),
        ("T4", 16, "T4"),
        ("A10G", 24576, "A10G"),
        ("A10G", 0, "A10G"),
        ("A100 (80 GB SXM4)", 80, "A100-80GB SXM"),
        ("H100 (80 GB SXM5)", 80, "H100 SXM"),
        ("H100 (80 GB PCIe)", 80, "H100 PCIe"),
        ("GH200 (96 GB)", 96, "GH200"),
        ("B200 (180 GB SXM6)", 180, "B200"),
        ("A10 (24 GB PCIe)", 24, "A10"),
        ("A6000 (48 GB)", 48, "RTX A6000"),
        ("RTX 6000 (24 GB)", 24, "Quadro RTX 6000"),
    ],
)
def test_the_boxs_memory_tells_cards_of_one_name_apart(said, box_gb, meant):
    gpu = find_gpu(said, box_gb=box_gb)
    assert gpu is not None
    assert gpu.name == meant


def test_a_24_gb_card_has_less_than_24_gib_and_a_filter_for_22_keeps_it():
    for name in ("A10G", "A10", "L4"):
        gpu = find_gpu(name)
        assert gpu is not None
        assert 22 <= gpu.vram_gib < 22.5


def test_cards_without_bf16_say_so():
    for name in ("T4", "V100", "Quadro RTX 6000"):
        gpu = find_gpu(name)
        assert gpu is not None
        assert not gpu.bf16
        assert gpu.tflops_bf16 == 0


def test_asking_for_a_family_means_all_of_it_and_no_other():
    assert gpu_matches(find_gpu("A100-80GB SXM"), "A100")
    assert gpu_matches(find_gpu("A100-80GB SXM"), "a100-80gb")
    assert gpu_matches(find_gpu("H100 NVL"), "H100")
    assert gpu_matches(find_gpu("A10G"), "nvidia a10g")
    assert not gpu_matches(find_gpu("A10G"), "A10")
    assert not gpu_matches(find_gpu("A100"), "A10")
    assert not gpu_matches(find_gpu("A100-40GB"), "A100-80GB")
    assert not gpu_matches(find_gpu("L40S"), "L40")
    assert not gpu_matches(find_gpu("L4"), "")


def test_a_machine_without_a_gpu_is_a_slow_gpu_called_cpu():
    cpu = cpu_device(16.0)
    assert cpu.is_cpu
    assert cpu.known
    assert not cpu.bf16
    assert cpu.compute_capability == (0, 0)
    assert cpu.vram_gib == 16.0
    assert cpu_device(16.0, cores=4).tflops_fp16 == pytest.approx(4 * cpu.tflops_fp16)


def test_an_unknown_gpu_is_unknown_and_never_guessed():
    assert find_gpu("MI300X") is None
    assert find_gpu("") is None
    assert not unknown_gpu("MI300X", 192.0).known
    assert unknown_gpu("").name
