"""Operations are those that one counts by hand, whatever torch makes of the code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_split
from torch import nn
from torch.func import functional_call, grad, vmap

from attriflow import flops
from attriflow.curvature import decompose
from attriflow.outputs import loss
from attriflow.scores import grad_dot, trak


def counted(work) -> int:
    with flops.spending() as spent:
        work()
    return spent.flops


a, b, v = torch.ones(3, 4), torch.ones(4, 5), torch.ones(4)
square = torch.eye(6, dtype=torch.float64)


@pytest.mark.parametrize(
    "work, count",
    [
        (lambda: a @ b, 2 * 3 * 4 * 5),
        (lambda: a @ v, 2 * 3 * 4),
        (lambda: v @ v, 2 * 4),
        (lambda: torch.ones(3, 5).addmm_(a, b), 2 * 3 * 4 * 5),
        (lambda: torch.einsum("ij,jk->ik", a, b), 2 * 3 * 4 * 5),
        (lambda: torch.ones(7, 3, 4) @ torch.ones(7, 4, 5), 7 * 2 * 3 * 4 * 5),
        (lambda: torch.linalg.cholesky_ex(square), 6**3 // 3),
        (lambda: torch.cholesky_solve(torch.ones(6, 2, dtype=torch.float64), square), 2 * 6 * 6 * 2),
        (lambda: torch.linalg.solve_triangular(square, torch.ones(6, 2, dtype=torch.float64), upper=False), 6 * 6 * 2),
        (lambda: torch.linalg.eigh(square), 9 * 6**3),
        (lambda: decompose(square.clone()), 9 * 6**3),
        (lambda: torch.fft.rfft(torch.ones(7, 8)), 7 * 5 * 8 * 3 / 2),
        (lambda: a + a, 0),
        (lambda: nn.functional.conv2d(torch.ones(2, 3, 5, 5), torch.ones(4, 3, 3, 3)), 2 * 2 * 4 * 9 * 3 * 9),
    ],
)
def test_operations_are_those_of_the_textbook(work, count):
    assert counted(work) == count
    with torch.inference_mode():
        assert counted(work) == count


def test_attention_has_two_products_forwards_and_four_backwards():
    shape = (2, 3, 5, 4)  # batch, heads, positions, width
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
    once = 2 * 2 * 3 * 5 * 5 * 4
    assert counted(lambda: nn.functional.scaled_dot_product_attention(q, k, v)) == 2 * once
    assert counted(lambda: nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()) == 6 * once


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))


def test_a_training_step_is_a_forward_pass_and_the_gradients_of_every_layer():
    x, y = torch.randn(4, 1, 4, 4), torch.zeros(4, dtype=torch.long)
    forward, first = 2 * (16 * 5 + 5 * 3), 2 * 16 * 5
    # the first layer needs no gradient of its input
    assert flops.of_step(perceptron(), x, y, loss) == forward + 2 * forward - first
    module = perceptron()
    module[1].requires_grad_(False)  # nothing is taken backwards through it
    assert flops.of_step(module, x, y, loss) == forward + 2 * 5 * 3
    assert flops.of_step(perceptron(), x[:1], y[:1], loss) == forward + 2 * forward - first


def test_gradients_by_vmap_are_counted():
    module = perceptron().eval()
    state = dict(module.named_parameters())
    x, y = torch.randn(6, 1, 4, 4), torch.zeros(6, dtype=torch.long)
    one = lambda state, x, y: loss(functional_call(module, state, (x[None],)), y[None])[0]  # noqa: E731
    count = counted(lambda: vmap(grad(one), in_dims=(None, 0, 0))(state, x, y))
    forward = 2 * (16 * 5 + 5 * 3)
    assert 6 * (2 * forward) <= count <= 6 * 3 * forward  # the product of an input with one row may be no matrix's


def test_counting_changes_no_number(members, split):
    for kind, options in ((trak, {"proj_dim": 8}), (grad_dot, {})):
        plain = kind.prepare(members[0], split, **options)
        with flops.spending() as spent:
            counting = kind.prepare(members[0], split, **options)
        assert spent.flops > 0 and spent.seconds > 0 and spent.cpu_seconds > 0
        for name in plain:
            np.testing.assert_array_equal(plain[name], counting[name])


def test_operations_grow_with_the_test_examples_and_not_with_their_numbers(members):
    def prepared(split) -> int:
        return counted(lambda: trak.prepare(members[0], split, proj_dim=8))

    one = toy_split()
    other = replace(one, test_x=one.test_x + 1)
    twice = replace(one, **{name: np.concatenate([getattr(one, name)] * 2) for name in ("test_x", "test_y")})
    thrice = replace(one, **{name: np.concatenate([getattr(one, name)] * 3) for name in ("test_x", "test_y")})
    assert prepared(one) == prepared(other)
    assert prepared(thrice) - prepared(twice) == prepared(twice) - prepared(one) > 0


def test_what_is_noted_outside_of_a_block_is_nobodys():
    flops.note(5)
    with flops.spending() as spent:
        flops.note(7)
    flops.note(11)
    assert spent.flops == 7
    assert (spent + flops.Spent(1.0, 2.0, 3)).flops == 10
