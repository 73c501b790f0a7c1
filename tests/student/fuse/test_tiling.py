"""The student in tiles and the student are one function."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from student.fuse.moments import moments
from student.fuse.tiling import fuse_tiled
from student.large_pages import VARIABLE
from student.network import FusionStudent, SampleLayerNorm
from student.origin import open_student


@pytest.fixture(scope="module")
def student() -> FusionStudent:
    return open_student(None)[0]


def pair(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Noise over ramps: tiles whose statistics differ."""
    generator = torch.Generator().manual_seed(height)
    ramp = torch.linspace(0, 0.8, width) * torch.linspace(1, 0.2, height)[:, None]
    ir, vis = (ramp.flip(k) + 0.2 * torch.rand(batch, 1, height, width, generator=generator) for k in (0, 1))
    return ir, vis


@torch.inference_mode()
@pytest.mark.parametrize(
    ("shape", "tile"), [((1, 150, 203), 64), ((2, 70, 90), 64), ((1, 16, 150), 100), ((1, 65, 64), 64)]
)
def test_tiles(student: FusionStudent, shape: tuple[int, int, int], tile: int) -> None:
    ir, vis = pair(*shape)
    fused = fuse_tiled(student, ir=ir, vis=vis, tile=tile)
    torch.testing.assert_close(fused, student(ir=ir, vis=vis), rtol=0, atol=1e-4)


def test_a_tile_by_itself_is_another_picture(student: FusionStudent) -> None:
    """The test above would fail if each tile were fused with its own statistics."""
    ir, vis = pair(1, 128, 128)
    with torch.inference_mode():
        alone = student(ir=ir[..., :64, :64], vis=vis[..., :64, :64])
        assert (alone - student(ir=ir, vis=vis)[..., :64, :64]).abs().max() > 0.02


def test_tiles_are_not_tiny(student: FusionStudent) -> None:
    ir, vis = pair(1, 64, 64)
    with pytest.raises(ValueError, match=r"tile must be at least 64 pixels\. Got 32"):
        fuse_tiled(student, ir=ir, vis=vis, tile=32)


class TestMoments:
    def test_parts_add_up_to_the_norms(self) -> None:
        x = 3 + torch.rand(2, 4, 30, 20, generator=torch.Generator().manual_seed(0))
        found = moments(x[..., :7]) + moments(x[..., 7:])
        scale, shift = found.instance_affine(1e-5)
        expected = torch.nn.functional.instance_norm(x, eps=1e-5)
        torch.testing.assert_close(x * scale + shift, expected, rtol=0, atol=1e-4)
        norm = SampleLayerNorm(4)
        torch.nn.init.uniform_(norm.gamma)
        with torch.no_grad():
            scale, shift = found.sample_affine(norm)
            torch.testing.assert_close(x * scale + shift, norm(x), rtol=0, atol=1e-4)


MEMORY = """
import torch
from pathlib import Path
from student.fuse import Fuser
from student.network import FusionStudent

def peak():  # not ru_maxrss, which begins with that of the process that started this one
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

torch.set_num_threads(1)
fuser = Fuser(FusionStudent(8), device="cpu", tile={tile})
image = torch.rand(3, 1500, 2000)
before = peak()
fuser(ir=image[:1], vis=image)
print((peak() - before) / (1500 * 2000))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_tiles_take_little_memory() -> None:
    """A quarter of a 12-megapixel image: memory grows with the number of pixels."""
    root = Path(__file__).resolve().parents[3]
    bytes_per_pixel = []
    for tile in (None, 512):
        code = MEMORY.format(tile=tile)
        command = [sys.executable, "-c", code]
        environment = {**os.environ, VARIABLE: "0"}  # as with --tile
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        bytes_per_pixel.append(float(done.stdout))
    assert bytes_per_pixel[1] < 150
    # Half of it; what the allocator keeps differs by a tenth from process to process.
    assert bytes_per_pixel[1] < 0.7 * bytes_per_pixel[0], bytes_per_pixel
