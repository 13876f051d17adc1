"""Convolutions computed in another way are the usual ones, with their gradients."""

import pytest
import torch
from torch import nn

from bipartition.convolutions import PatchConvolution, StemConvolution, TapConvolution


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("stride", "size"), [(1, (2, 2)), (1, (4, 3)), (1, (1, 1)), (2, (4, 4)), (2, (7, 5)), (1, (9, 4))])
def test_a_convolution_by_its_patches_is_the_convolution_with_its_gradients(stride, size, memory):
    convolution = nn.Conv2d(6, 5, 3, stride=stride, padding=1, bias=False).double().to(memory_format=memory)
    patches = PatchConvolution(nn.Conv2d(6, 5, 3, stride=stride, padding=1, bias=False)).double()
    patches.load_state_dict(convolution.state_dict())
    torch.testing.assert_close(patches.state_dict(), convolution.state_dict(), rtol=0, atol=0)
    x = torch.randn(2, 6, *size, dtype=torch.float64).to(memory_format=memory).requires_grad_(True)
    expected, answer = convolution(x), patches(x)
    torch.testing.assert_close(answer, expected)
    weight = torch.randn_like(expected)
    own, kernels = torch.autograd.grad((weight * answer).sum(), [x, patches.weight])
    other, expected_kernels = torch.autograd.grad((weight * expected).sum(), [x, convolution.weight])
    torch.testing.assert_close(own, other)
    torch.testing.assert_close(kernels.view(5, 3, 3, 6).permute(0, 3, 1, 2), expected_kernels)


def test_a_convolution_by_its_patches_is_as_exact_as_the_usual_one_under_autocast():
    convolution = nn.Conv2d(256, 256, 3, padding=1, bias=False)
    patches = PatchConvolution(convolution)
    x, weight = torch.randn(2, 4, 256, 4, 4, dtype=torch.bfloat16)  # what reaches it from the layer before, and after

    def found(network, dtype):
        inputs = x.to(dtype).requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            answer = network(inputs)
        return answer.detach(), torch.autograd.grad((weight * answer).sum(), inputs)[0]

    usual, own = found(convolution, torch.bfloat16), found(patches, torch.bfloat16)
    exact = found(convolution.double(), torch.float64)
    for theirs, ours, truth in zip(usual, own, exact, strict=True):
        error = (ours - truth).norm() / truth.norm()
        assert error < 0.01 and error < 1.5 * (theirs - truth).norm() / truth.norm()


@pytest.mark.parametrize("shape", [(5, 53), (5, 54, 1, 1), (5, 7, 3, 3)])
def test_kernels_of_another_shape_are_refused(shape):
    patches = PatchConvolution(nn.Conv2d(6, 5, 3, padding=1, bias=False))
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        patches.load_state_dict({"weight": torch.zeros(shape)})


@pytest.mark.parametrize(("outputs", "size"), [(1, (7, 5)), (3, (4, 4)), (3, (1, 1))])
def test_a_convolution_by_its_taps_is_the_convolution_with_its_gradients(outputs, size):
    taps, convolution = TapConvolution(6, outputs).double(), nn.Conv2d(6, outputs, 3, padding=1).double()
    convolution.load_state_dict(taps.state_dict())
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, outputs, *size, dtype=torch.float64)
    expected, answer = convolution(x), taps(x)
    torch.testing.assert_close(answer, expected)
    for own, other in zip(torch.autograd.grad((weight * answer).sum(), [x, taps.weight, taps.bias]),
                          torch.autograd.grad((weight * expected).sum(), [x, convolution.weight, convolution.bias]),
                          strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(128, 128), (129, 130), (130, 131), (128, 135)])
def test_a_stem_is_the_convolution_with_its_gradients(size, memory):
    convolution = nn.Conv2d(3, 5, 7, stride=2, padding=3, bias=False).double().to(memory_format=memory)
    stem = StemConvolution(convolution)
    x = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=memory).requires_grad_(True)
    expected, answer = convolution(x), stem(x)
    assert answer.grad_fn.name() == "_StemBackward"  # else the usual convolution is compared with itself
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)
    weight = torch.randn_like(expected)
    for own, other in zip(torch.autograd.grad((weight * answer).sum(), [x, stem.weight], retain_graph=True),
                          torch.autograd.grad((weight * expected).sum(), [x, convolution.weight]), strict=True):
        torch.testing.assert_close(own, other)
    stem.weight.requires_grad_(False)  # a frozen judge's
    torch.testing.assert_close(torch.autograd.grad((weight * stem(x)).sum(), x), torch.autograd.grad(
        (weight * convolution(x)).sum(), x))


@pytest.mark.parametrize(("side", "needed"), [(127, True), (128, False)])
def test_a_stem_whose_gradient_is_not_needed_or_small_is_the_usual_convolution(side, needed):
    convolution = nn.Conv2d(3, 5, 7, stride=2, padding=3, bias=False)
    x = torch.randn(2, 3, side, 128, requires_grad=needed)
    answer, expected = StemConvolution(convolution)(x), convolution(x)
    assert answer.grad_fn.name() == expected.grad_fn.name()
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)


def test_a_stem_is_as_exact_as_the_usual_one_under_autocast():
    convolution = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False).to(memory_format=torch.channels_last)
    stem = StemConvolution(convolution)
    x, weight = torch.randn(2, 3, 128, 128), torch.randn(2, 64, 64, 64, dtype=torch.bfloat16)

    def found(network, dtype):
        inputs = x.to(dtype).requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
            answer = network(inputs)
        gradients = torch.autograd.grad((weight * answer).sum(), [inputs, network.weight])
        assert all(gradient.dtype == dtype for gradient in gradients)
        return answer.detach(), *gradients

    usual, own = found(convolution, torch.float32), found(stem, torch.float32)
    exact = found(convolution.double(), torch.float64)
    assert own[0].dtype == usual[0].dtype == torch.bfloat16
    for theirs, ours, truth in zip(usual, own, exact, strict=True):
        error = (ours - truth).norm() / truth.norm()
        assert error < 0.01 and error < 1.1 * (theirs - truth).norm() / truth.norm()


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_stem_takes_no_picture_of_another_type_than_its_weight(side, dtype):
    stem = StemConvolution(nn.Conv2d(3, 5, 7, stride=2, padding=3, bias=False))
    with pytest.raises(RuntimeError, match="type"):
        stem(torch.rand(1, 3, side, side, dtype=dtype, requires_grad=True))
