import pytest
import torch

from fusion_env.errors import DataError
from fusion_env.metrics.levels import check_images, gray_levels, to_levels


class TestToLevels:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_every_level_survives_the_way_through_floats(self, dtype, device):
        levels = torch.arange(256, dtype=torch.uint8, device=device).view(1, 1, 16, 16)
        restored = to_levels(levels.to(dtype) / 255)
        assert restored.dtype == dtype
        assert torch.equal(restored, levels.to(dtype))
        assert torch.equal(to_levels(levels), levels.float())

    def test_rounds_half_up_and_clamps(self):
        image = torch.tensor([-3.0, 0.5 / 255, 1.49 / 255, 2.5 / 255, 1.7, float("inf")], dtype=torch.float64)
        assert to_levels(image).tolist() == [0, 1, 1, 3, 255, 255]

    def test_leaves_its_argument_alone(self):
        image = torch.full((1, 1, 2, 2), 0.3)
        to_levels(image)
        assert torch.equal(image, torch.full((1, 1, 2, 2), 0.3))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_becomes_float32(self, dtype):
        assert torch.equal(to_levels(torch.tensor([0.0, 0.5, 1.0], dtype=dtype)), torch.tensor([0.0, 128.0, 255.0]))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
    def test_refuses_types_without_a_known_range(self, dtype):
        with pytest.raises(TypeError, match=f"Got {dtype}"):
            to_levels(torch.zeros(1, 1, 2, 2, dtype=dtype))


class TestGrayLevels:
    def test_hand_computed_colours(self):
        # 76.23 red, 149.70 green, 29.08 blue; 0.2989 * 10 + 0.5870 * 20 + 0.1140 * 30 = 18.15.
        colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]])
        gray = gray_levels(colours.to(torch.uint8)[:, :, None, None])
        assert gray.dtype == torch.uint8
        assert gray.flatten().tolist() == [76, 150, 29, 255, 18]

    def test_gray_stored_as_colour_stays(self):
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
        assert torch.equal(gray_levels(levels.expand(1, 3, 16, 16)), levels)
        assert torch.equal(gray_levels(levels), levels)
        assert torch.equal(gray_levels(levels.expand(1, 3, 16, 16).float() / 255), levels)

    def test_refuses_other_shapes(self):
        with pytest.raises(ValueError, match=r"Got shape \[1, 4, 2, 2\]"):
            gray_levels(torch.zeros(1, 4, 2, 2))


class TestCheckImages:
    def test_accepts_the_smallest_size(self):
        check_images(5, fused=torch.zeros(1, 1, 5, 5), ir=torch.zeros(1, 1, 5, 5))

    @pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8), (8, 8)])
    def test_refuses_colour_and_other_ranks(self, shape):
        with pytest.raises(ValueError, match=r"fused must be luma.*gray_levels"):
            check_images(1, fused=torch.zeros(shape))

    def test_refuses_too_small_images_and_empty_batches(self):
        with pytest.raises(DataError, match=r"at least 41x41.*Got a batch of 2, 64x40"):
            check_images(41, fused=torch.zeros(2, 1, 64, 40))
        with pytest.raises(DataError, match="Got a batch of 0"):
            check_images(1, fused=torch.zeros(0, 1, 8, 8))

    def test_refuses_unequal_shapes_and_types(self):
        fused = torch.zeros(1, 1, 8, 8)
        with pytest.raises(ValueError, match="ir and fused must have the same shape"):
            check_images(1, fused=fused, ir=torch.zeros(1, 1, 8, 9))
        with pytest.raises(TypeError, match="vis and fused must have the same dtype"):
            check_images(1, fused=fused, ir=fused, vis=fused.double())
