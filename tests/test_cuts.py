"""Random parts of pictures: crops, and cuts by random masks."""

import torch

from bipartition.cuts import random_crops, random_cuts


class TestRandomCuts:
    def test_they_cover_any_share_of_the_picture_softly_or_sharply(self):
        cuts = random_cuts(torch.zeros(400, 3, 32, 32), torch.Generator().manual_seed(0))
        assert cuts.shape == (400, 1, 32, 32) and cuts.min() >= 0 and cuts.max() <= 1
        shares = cuts.mean(dim=(1, 2, 3))
        assert shares.min() < 0.15 and shares.max() > 0.85 and abs(shares.mean().item() - 0.5) < 0.05
        grey = ((cuts > 0.1) & (cuts < 0.9)).float().mean(dim=(1, 2, 3))
        assert grey.min() < 0.2 and grey.max() > 0.8

    def test_with_contours_they_follow_the_colours_of_the_picture_and_still_cover_any_share(self):
        halves = torch.zeros(400, 3, 32, 32)
        halves[..., 16:] = 0.8
        steps = {}
        for contours in (0.0, 0.8):
            cuts = random_cuts(halves, torch.Generator().manual_seed(0), contours=contours)
            across = (cuts[..., 12:20].mean(dim=(1, 2)).diff(dim=1).abs()).sum(dim=1)
            along = (cuts[:, 0, 12:20].mean(dim=2).diff(dim=1).abs()).sum(dim=1)
            steps[contours] = (across.mean() / along.mean()).item()
            shares = cuts.mean(dim=(1, 2, 3))
            assert shares.min() < 0.2 and shares.max() > 0.8 and abs(shares.mean().item() - 0.5) < 0.05
        assert steps[0.8] > 2 * steps[0.0]

    def test_a_flat_picture_has_no_contours_to_follow(self):
        cuts = random_cuts(torch.full((4, 3, 32, 32), 0.5), torch.Generator().manual_seed(0), contours=1.0)
        assert cuts.isfinite().all() and cuts.std() > 0.05

    def test_they_do_not_follow_the_rim_of_the_picture(self):
        bright, black = (random_cuts(torch.full((4, 3, 32, 32), value, dtype=torch.float64), torch.Generator().manual_seed(0),
                                     contours=0.8) for value in (0.8, 0.0))
        torch.testing.assert_close(bright, black)  # else what lies beyond the picture is taken for black


class TestRandomCrops:
    def ramp(self, count=200):
        """Red says how far right a pixel lies, green how far down."""
        across = ((torch.arange(32) + 0.5) / 32).expand(32, 32)
        return torch.stack([across, across.T, torch.zeros(32, 32)]).expand(count, 3, 32, 32)

    def test_each_shows_a_part_of_the_asked_size_inside_the_picture(self):
        crops = random_crops(self.ramp(), 0.25, torch.Generator().manual_seed(0))
        width = (crops[:, 0, 16, 31] - crops[:, 0, 16, 0]) / (31 / 32)
        height = (crops[:, 1, 31, 16] - crops[:, 1, 0, 16]) / (31 / 32)
        assert (width * height).min() > 0.23 and (width * height).max() > 0.85
        assert (width / height).log().abs().max() < 0.3 and width.max() <= 1.001
        assert crops.min() >= 0 and crops.max() <= 1
        assert crops[:, 0, 16, 16].std() > 0.05

    def test_autocast_rounds_no_places(self):
        first, second = (self.crops_under_autocast(enabled) for enabled in (False, True))
        assert torch.equal(first, second)

    def crops_under_autocast(self, enabled):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            return random_crops(self.ramp(4), 0.1, torch.Generator().manual_seed(0))

    def test_the_same_generator_crops_the_same(self):
        first, second = (random_crops(self.ramp(4), 0.5, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, second)
