"""Every formula of the fast path, plain and as a Triton kernel, against float64.

With a GPU the kernels are compiled; without one they run under Triton's interpreter where Triton is
installed, and the plain twins are tested in any case.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.fixture(scope="module")
def device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported first, which is below
    return "cpu"


@pytest.fixture(params=["plain", "kernel"])
def way(request: Any, torch: Any, device: str, monkeypatch: Any) -> Iterator[str]:
    """Both ways through each function."""
    from kwanzaa_trainer.fast import backend

    if request.param == "plain":
        monkeypatch.setattr(backend, "_kernels", lambda: None)
    elif not HAS_TRITON:
        pytest.skip("Triton is not installed here")
    with backend.interpreted() if request.param == "kernel" else nullcontext():
        yield request.param


def near(got: Any, exact: Any, torch: Any) -> bool:
    """Within a few roundings of the number format that it was computed in."""
    scale = {torch.float32: 2e-6, torch.bfloat16: 6e-3}[got.dtype]
    error = (got.double() - exact).norm() / exact.norm()
    return bool(torch.isfinite(got).all()) and float(error) < scale


@pytest.fixture(params=["float32", "bfloat16"])
def kind(request: Any, torch: Any) -> Any:
    return getattr(torch, request.param)


def test_rotating_is_a_complex_product_and_turning_back_undoes_it(
    torch: Any, device: str, way: str, kind: Any
) -> None:
    from kwanzaa_trainer.fast.rotary import rotate

    x = torch.randn(7, 3, 24, device=device, dtype=kind)
    angle = torch.rand(7, 12, device=device, dtype=torch.float64) * 6
    cos, sin = angle.cos().to(kind), angle.sin().to(kind)
    pairs = torch.complex(*x.double().chunk(2, -1))
    turned = pairs * torch.complex(cos.double(), sin.double())[:, None]
    exact = torch.cat((turned.real, turned.imag), -1)
    assert near(rotate(x, cos, sin), exact, torch)
    gradient = (
        torch.complex(*x.double().chunk(2, -1))
        * torch.complex(cos.double(), -sin.double())[:, None]
    )
    back = torch.cat((gradient.real, gradient.imag), -1)
    assert near(rotate(x, cos, sin, backward=True), back, torch)


def test_swiglu_and_its_gradients(torch: Any, device: str, way: str, kind: Any) -> None:
    from kwanzaa_trainer.fast.swiglu import swiglu, swiglu_backward

    gate, up, grad = (torch.randn(13, 200, device=device, dtype=kind) * 2 for _ in range(3))
    g, u = (t.double().requires_grad_() for t in (gate, up))
    exact = torch.nn.functional.silu(g) * u
    exact.backward(grad.double())
    assert near(swiglu(gate, up), exact.detach(), torch)
    swiglu_backward(gate, up, grad)
    assert near(gate, g.grad, torch)
    assert near(up, u.grad, torch)
    assert near(grad, exact.detach(), torch)


def test_cross_entropy_and_its_gradient(torch: Any, device: str, way: str, kind: Any) -> None:
    from kwanzaa_trainer.data import IGNORED
    from kwanzaa_trainer.fast.loss import cross_entropy

    logits = (torch.randn(9, 5000, device=device) * 4).to(kind)
    wanted = torch.randint(0, 5000, (9,), device=device)
    wanted[3] = wanted[8] = IGNORED
    weights = torch.rand(9, device=device)
    exact = logits.double().requires_grad_()
    losses = torch.nn.functional.cross_entropy(
        exact, wanted, ignore_index=IGNORED, reduction="none"
    )
    (losses * weights).sum().backward()
    assert near(cross_entropy(logits, wanted, weights), losses.detach() * weights, torch)
    assert near(logits, exact.grad, torch)
    assert not logits[3].any()


def test_the_loss_through_the_head_is_the_same_in_chunks(
    torch: Any, device: str, way: str, monkeypatch: Any
) -> None:
    from kwanzaa_trainer.fast import loss

    monkeypatch.setattr(loss, "CHUNK_TOKENS", 4)
    hidden, head = torch.randn(10, 16, device=device), torch.randn(300, 16, device=device)
    wanted = torch.randint(0, 300, (10,), device=device)
    weights = torch.full((10,), 0.5, device=device)
    exact = hidden.double().requires_grad_()
    logits = exact @ head.double().t()
    whole = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    (whole * 0.5).backward()
    got, grad = loss.head_loss(hidden, head, wanted, weights)
    assert float(got.sum()) == pytest.approx(float(whole.detach()) * 0.5, rel=1e-6)
    assert near(grad, exact.grad, torch)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_unpacking_gives_what_bitsandbytes_gives(
    torch: Any, device: str, way: str, nested: bool, quant_type: str
) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    from kwanzaa_trainer.fast.nf4 import Scratch, Weight

    values = torch.randn(96, 192, device=device, dtype=torch.float32)
    packed, state = quantize_4bit(values, compress_statistics=nested, quant_type=quant_type)
    scratch = Scratch(torch.float32)
    exact = dequantize_4bit(packed, state)
    got = scratch.values(Weight(packed, state, "q_proj"))
    assert got.shape == values.shape
    torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-7)


def test_a_buffer_holds_one_weight_and_is_not_filled_twice(torch: Any) -> None:
    from bitsandbytes.functional import quantize_4bit

    from kwanzaa_trainer.fast.nf4 import Scratch, Weight

    one, other = (Weight(*quantize_4bit(torch.randn(64, 64)), "q_proj") for _ in range(2))
    scratch = Scratch(torch.float32)
    first = scratch.values(one)
    first[0, 0] = 9.0  # a mark that only unpacking anew would wipe out
    assert scratch.values(one)[0, 0] == 9.0
    assert scratch.values(other)[0, 0] != 9.0
    assert scratch.values(one)[0, 0] != 9.0
    first[0, 0] = 9.0
    scratch.forget()
    assert scratch.values(one)[0, 0] != 9.0


def test_dropout_drops_its_share_and_the_mask_hangs_on_seed_and_site_alone(
    torch: Any, device: str, way: str, kind: Any
) -> None:
    from kwanzaa_trainer.fast.dropout import Dropout, keeps, seed_of, site_of

    seeds = torch.tensor([seed_of(7, 3, row) for row in range(4)], device=device)
    site, dropout = site_of(2, 1), Dropout(0.25, seeds)
    x = torch.randn(64, 100, device=device).to(kind)
    mask = keeps(x.shape, seeds, site, 0.25)
    rows = [keeps(torch.Size((16, 100)), seed[None], site, 0.25) for seed in seeds]
    assert torch.equal(mask, torch.cat(rows)), "a row's mask hangs on its own seed alone"
    assert float(mask.double().mean()) == pytest.approx(0.75, abs=0.02)
    exact = x.double() * mask / 0.75
    assert near(dropout.drop(x, site), exact, torch)
    assert torch.equal(dropout.drop(x, site), dropout.drop(x, site))
    assert not torch.equal(dropout.drop(x, site), dropout.drop(x, site_of(2, 2)))
    under = torch.randn(64, 100, device=device).to(kind)
    exact += under.double()
    assert near(dropout.drop(x, site, add_to=under), exact, torch)


def test_masks_of_neighbouring_seeds_and_sites_are_independent(torch: Any) -> None:
    from kwanzaa_trainer.fast.dropout import keeps, seed_of, site_of

    shape = torch.Size((100, 100))
    masks = [
        keeps(shape, torch.tensor([seed_of(7, step, 0)]), site_of(block, 0), 0.5).double()
        for step in range(3)
        for block in range(3)
    ]
    for number, one in enumerate(masks):
        for other in masks[:number]:
            assert float((one * other).mean()) == pytest.approx(0.25, abs=0.02)
        assert float((one[:, 1:] * one[:, :-1]).mean()) == pytest.approx(0.25, abs=0.02)
        assert float((one[1:] * one[:-1]).mean()) == pytest.approx(0.25, abs=0.02)
