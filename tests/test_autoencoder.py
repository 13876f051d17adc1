"""The auto-encoder of section 4.2: VGG-16's layers, their mirror, and how it starts."""

import pytest
import torch
from torch import nn
from torchvision.models import vgg16_bn

from bipartition.autoencoder import AutoEncoder


@pytest.fixture
def image():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class TestAutoEncoder:
    def test_the_encoder_is_vgg16s(self):
        ours = AutoEncoder(matrices=False, width=64).encoder.state_dict()
        theirs = vgg16_bn(weights=None).features.state_dict()
        assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}

    @pytest.mark.parametrize("matrices", [False, True])
    def test_it_answers_with_grey_pictures_of_the_same_size(self, image, matrices):
        torch.manual_seed(0)
        partition = AutoEncoder(matrices=matrices, width=8)(image)
        assert partition.background_mask.shape == (3, 1, 64, 64) and partition.image_logits is None
        assert (partition.matrices is not None) == matrices
        assert partition.background_mask.sub(0.5).abs().max() < 0.1

    def test_f_and_b_start_apart_so_that_the_mask_has_a_gradient(self, image):
        torch.manual_seed(0)
        foreground_matrix, background_matrix = AutoEncoder(matrices=True, width=8)(image).matrices
        assert (foreground_matrix - background_matrix).abs().mean() > 0.05

    def test_signals_keep_their_size_through_all_layers(self, image):
        torch.manual_seed(0)
        network = AutoEncoder(matrices=False, width=16)
        hidden = network.decoder[:-1](network.encoder(image))
        assert 0.05 < hidden.std().item() / image.std().item() < 20

    @pytest.mark.parametrize("poolings", [2, 5])
    def test_fewer_poolings_leave_a_finer_code_and_a_mask_of_the_same_size(self, image, poolings):
        network = AutoEncoder(matrices=False, width=8, poolings=poolings)
        assert network.encoder(image).shape[2:] == (64 // 2**poolings, 64 // 2**poolings)
        assert network(image).background_mask.shape == (3, 1, 64, 64)

    def test_fewer_poolings_keep_every_convolution(self):
        kept, full = (AutoEncoder(matrices=False, width=8, poolings=poolings).encoder for poolings in (3, 5))
        shapes = [[tuple(module.weight.shape) for module in network if isinstance(module, nn.Conv2d)]
                  for network in (kept, full)]
        assert shapes[0] == shapes[1] and len(shapes[0]) == 13
