import cv2
import pytest
import torch

from fusion_env.filters import filter_reflected, gaussian_window, local_means, local_moments


def planes(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestGaussianWindow:
    def test_known_weights(self):
        # exp(-1 / 2) = 0.60653 beside 1, divided by 2.21306.
        assert gaussian_window(3, 1.0) == pytest.approx((0.274069, 0.451863, 0.274069), abs=1e-6)

    @pytest.mark.parametrize(("size", "sigma"), [(17, 3.4), (11, 1.5), (3, 0.6)])
    def test_symmetric_and_of_sum_one(self, size, sigma):
        window = gaussian_window(size, sigma)
        assert sum(window) == pytest.approx(1.0, abs=1e-12)
        assert window == window[::-1]


class TestLocalMeans:
    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize(
        ("size", "height", "width"), [(3, 3, 3), (5, 40, 71), (17, 17, 90), (17, 83, 64), (9, 33, 10)]
    )
    def test_both_ways_equal_the_direct_sum(self, size, height, width, stride):
        window = gaussian_window(size, size / 5)
        images = planes(0, height, 3, width)
        weights = torch.tensor(window, dtype=torch.float64)
        patches = images.transpose(0, 1).unfold(1, size, stride).unfold(2, size, stride)
        expected = torch.einsum("nhwij,i,j->hnw", patches, weights, weights)
        # On a CPU matrix products, and with a gradient a convolution.
        torch.testing.assert_close(local_means(images, window, stride), expected, rtol=0, atol=1e-13)
        convolved = local_means(images.requires_grad_(), window, stride).detach()
        torch.testing.assert_close(convolved, expected, rtol=0, atol=1e-13)

    def test_single_plane(self, device):
        window = gaussian_window(5, 1.0)
        plane = planes(1, 20, 1, 30).to(device)
        expected = local_means(plane.cpu(), window)
        convolved = local_means(plane.requires_grad_(), window).detach()
        torch.testing.assert_close(convolved.cpu(), expected, rtol=0, atol=1e-13)

    def test_constant_stays(self, device):
        means = local_means(torch.full((30, 2, 25), 7.0, device=device), gaussian_window(11, 1.5))
        torch.testing.assert_close(means, torch.full((20, 2, 15), 7.0, device=device))

    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_ignores_autocast(self, requires_grad, device):
        images = planes(2, 30, 2, 30, dtype=torch.float32).to(device).requires_grad_(requires_grad)
        window = gaussian_window(5, 1.0)
        with torch.autocast(device, dtype=torch.bfloat16):
            inside = local_means(images, window)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, local_means(images, window))

    def test_kept_weights_made_in_inference_mode_still_train(self):
        window = gaussian_window(7, 1.234)
        with torch.inference_mode():
            local_means(planes(3, 12, 2, 12), window)
        images = planes(3, 12, 2, 12).requires_grad_()
        local_means(images, window).sum().backward()
        assert images.grad is not None
        assert images.grad.abs().sum() > 0


class TestFilterReflected:
    @pytest.mark.parametrize(("size", "height", "width"), [(3, 2, 9), (7, 40, 51), (31, 16, 64)])
    def test_equals_opencv(self, size, height, width, device):
        images = planes(5, 2, 1, height, width).to(device)
        filtered = filter_reflected(images, gaussian_window(size, size / 6)).cpu()
        for image, own in zip(images.cpu(), filtered, strict=True):
            expected = cv2.GaussianBlur(image[0].numpy(), (size, size), size / 6, borderType=cv2.BORDER_REFLECT_101)
            torch.testing.assert_close(own[0], torch.from_numpy(expected), rtol=0, atol=1e-12)

    def test_images_that_do_not_reach_beyond_half_the_window(self):
        with pytest.raises(ValueError, match="at least 4 pixels. Got 3"):
            filter_reflected(torch.zeros(1, 1, 8, 3), gaussian_window(7, 1.0))

    def test_ignores_autocast(self, device):
        images = planes(6, 1, 1, 20, 20, dtype=torch.float32).to(device)
        window = gaussian_window(5, 1.0)
        with torch.autocast(device, dtype=torch.bfloat16):
            inside = filter_reflected(images, window)
        assert torch.equal(inside, filter_reflected(images, window))


class TestLocalMoments:
    def test_against_weighted_moments_of_one_window(self):
        window = gaussian_window(5, 1.0)
        images = planes(4, 5, 3, 2, 5)
        moments = local_moments(images, window)
        weights = torch.tensor(window, dtype=torch.float64)
        weights = weights[:, None, None, None] * weights
        mean = (weights * images).sum(dim=(0, 3), keepdim=True)
        centred = images - mean
        torch.testing.assert_close(moments.mean, mean[:, :1])
        torch.testing.assert_close(moments.other_means, mean[:, 1:])
        spread = (weights * centred * centred).sum(dim=(0, 3), keepdim=True)
        torch.testing.assert_close(moments.variance, spread[:, :1])
        torch.testing.assert_close(moments.other_variances, spread[:, 1:])
        joint = (weights * centred[:, 1:] * centred[:, :1]).sum(dim=(0, 3), keepdim=True)
        torch.testing.assert_close(moments.covariances, joint)
