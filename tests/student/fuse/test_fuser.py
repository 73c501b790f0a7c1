"""Images in memory: every form in, the visible image's form out, and wrong ones refused with advice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import student
from student.fuse.fuser import Fuser
from student.network import FusionStudent
from student.origin import open_student
from student.weights import WeightsError, save_state


class Visible(nn.Module):
    """A network that returns the visible luma."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return vis


IDENTITY = Fuser(Visible(), device="cpu")


def levels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 3), (20, 24, 1), (2, 20, 24), (2, 20, 24, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_arrays_come_back_as_they_were(shape: tuple[int, ...], dtype: Any) -> None:
    vis = levels(*shape, dtype=dtype) if np.issubdtype(dtype, np.integer) else (levels(*shape) / 255).astype(dtype)
    batch = shape[:1] if shape[0] == 2 else ()
    fused = IDENTITY(ir=levels(*batch, 20, 24), vis=vis)
    assert (fused.shape, fused.dtype) == (vis.shape, vis.dtype)
    np.testing.assert_allclose(
        fused.astype(float), vis.astype(float), rtol=0, atol=1e-3 if dtype == np.float16 else 1e-6
    )


@pytest.mark.parametrize("shape", [(20, 24), (3, 20, 24), (1, 20, 24), (2, 3, 20, 24)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.bfloat16])
def test_tensors_come_back_as_they_were(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    vis = (torch.from_numpy(levels(*shape)).float() / 255).to(dtype)
    if not dtype.is_floating_point:
        vis = torch.from_numpy(levels(*shape).astype(str(dtype).removeprefix("torch.")))
    ir = torch.zeros(2, 1, 20, 24) if len(shape) == 4 else torch.zeros(20, 24)
    fused = IDENTITY(ir=ir, vis=vis)
    assert (fused.shape, fused.dtype) == (vis.shape, vis.dtype)
    torch.testing.assert_close(fused.double(), vis.double(), rtol=0, atol=1e-6 if dtype != torch.bfloat16 else 1e-2)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [("L", (20, 24), np.uint8), ("RGB", (20, 24, 3), np.uint8), ("I;16", (20, 24), np.uint16)],
)
def test_pil(mode: str, shape: tuple[int, ...], dtype: Any) -> None:
    vis = Image.fromarray(levels(*shape, dtype=dtype))
    assert vis.mode == mode
    fused = IDENTITY(ir=Image.fromarray(levels(20, 24)), vis=vis)
    assert fused.mode == mode
    assert np.array_equal(np.asarray(fused), np.asarray(vis))


@pytest.mark.parametrize(
    ("ir", "vis", "message"),
    [
        (levels(20, 24), levels(20, 25), r"ir is 20 x 24 and vis 20 x 25 .* registered.*--align"),
        (levels(20, 24), levels(20, 24, 4), r"vis must have shape .*alpha"),
        (levels(2, 20, 24), levels(20, 24), r"equally many\. Got 2 and 1; channels come last"),
        (levels(20, 24), np.full((20, 24), 7.0), r"vis has floating-point values from 7 to 7; .*divide"),
        (np.full((20, 24), np.nan), levels(20, 24), "ir has floating-point values from nan"),
        (levels(20, 24, 3), levels(20, 24), "are they swapped"),
        (Image.new("RGBA", (24, 20)), levels(20, 24), "ir has the PIL mode 'RGBA'; convert"),
        (torch.zeros(4, 20, 24), levels(20, 24), r"ir must have shape \[H, W\]"),
        (levels(8, 8), levels(8, 8), "at least 16 pixels"),
    ],
)
def test_refused(ir: Any, vis: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        student.load(device="cpu")(ir=ir, vis=vis)


@pytest.mark.parametrize(
    "vis", [levels(20, 24).astype(np.int64), levels(20, 24).tolist(), torch.zeros(20, 24, dtype=torch.bool)]
)
def test_other_types(vis: Any) -> None:
    with pytest.raises(TypeError, match="vis must"):
        IDENTITY(ir=levels(20, 24), vis=vis)


def test_fuse_is_the_embedded_student() -> None:
    ir, vis = levels(32, 40), levels(32, 40, 3)
    network, _ = open_student(None)
    fused = student.fuse(ir, vis, device="cpu")
    again = student.fuse(ir=torch.from_numpy(ir), vis=torch.from_numpy(vis).permute(2, 0, 1), device="cpu")
    assert np.array_equal(fused, again.permute(1, 2, 0).numpy())
    tiled = Fuser(network, device="cpu", tile=64)(ir=ir, vis=vis)
    assert np.abs(fused.astype(int) - tiled).max() <= 1
    assert not np.array_equal(fused, vis)


@pytest.mark.parametrize("value", [0, 77])
@pytest.mark.parametrize("tile", [None, 64])
def test_of_a_flat_picture_the_other_is_the_result(value: int, tile: int | None) -> None:
    fuser = student.load(device="cpu", tile=tile)
    flat, picture = np.full((32, 40), value, np.uint8), levels(32, 40)
    for ir, vis in ((flat, picture), (picture, flat), (picture, np.repeat(flat[..., None], 3, axis=2))):
        fused = fuser(ir=ir, vis=vis)
        assert np.array_equal(fused if fused.ndim == 2 else fused[..., 1], picture)
    both = fuser(ir=np.stack([flat, picture]), vis=np.stack([picture, picture[::-1]]))
    assert np.array_equal(both[0], picture)
    assert np.array_equal(both[1], fuser(ir=picture, vis=picture[::-1]))


def test_batches_are_single_images() -> None:
    ir, vis = levels(3, 32, 40), levels(3, 32, 40, 3)
    fused = student.fuse(ir, vis, device="cpu")
    assert np.array_equal(fused[1], student.fuse(ir[1], vis[1], device="cpu"))


def test_the_callers_state_does_not_matter() -> None:
    ir, vis = levels(32, 40), levels(32, 40, 3)
    expected = student.fuse(ir, vis, device="cpu")
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert np.array_equal(student.fuse(ir, vis, device="cpu"), expected)


def test_a_tensor_can_be_used_in_training() -> None:
    picture = torch.rand(1, 32, 40, generator=torch.Generator().manual_seed(0))
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            fused = student.fuse(picture, picture, device="cpu")
        weight = torch.ones((), requires_grad=True)
        (weight * fused).sum().backward()
        assert weight.grad == fused.sum()
        fused.add_(1)


def test_importing_from_the_package_keeps_the_function() -> None:
    import student.fuse.files

    assert callable(student.fuse)


class TestSettings:
    def test_half_and_compiled_are_for_cuda(self) -> None:
        for name in ("half", "compiled"):
            with pytest.raises(ValueError, match=f"{name}=True needs a CUDA device"):
                student.load(device="cpu", **{name: True})

    def test_tile(self) -> None:
        with pytest.raises(ValueError, match="tile must be at least 64, .* Got 10"):
            student.load(device="cpu", tile=10)

    @pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta"])
    def test_device(self, device: str) -> None:
        with pytest.raises(ValueError, match=rf"device '{device}' cannot be used: .*\"cpu\" or \"auto\""):
            student.load(device=device)

    def test_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "own.safetensors"
        save_state(FusionStudent(1).state_dict(), path)
        assert str(path) in student.load(path, device="cpu").describe()
        with pytest.raises(WeightsError, match=r"nowhere/own\.safetensors cannot be opened"):
            student.load("nowhere/own.safetensors")

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            torch.OutOfMemoryError("CUDA out of memory."),
        ],
    )
    def test_memory(self, monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
        def fail(**_: Tensor) -> Tensor:
            raise error

        fuser = Fuser(Visible(), device="cpu")
        monkeypatch.setattr(fuser, "_fuse_luma", fail)
        with pytest.raises(MemoryError, match="for 1 image of 20 x 24 pixels at once: set a tile, such as 1024"):
            fuser(ir=levels(20, 24), vis=levels(20, 24))

    def test_a_batch_does_not_fit_on_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def to(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
            if args == (torch.device("cuda"),):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return move(tensor, *args, **options)

        move = Tensor.to
        fuser = Fuser(Visible(), device="cpu")
        monkeypatch.setattr(fuser, "device", torch.device("cuda"))  # where a batch goes in at once
        monkeypatch.setattr(Tensor, "to", to)
        with pytest.raises(MemoryError, match="on cuda for 3 images of 20 x 24 .*: pass fewer, or set a tile"):
            fuser(ir=levels(3, 20, 24), vis=levels(3, 20, 24))

    def test_other_errors_are_not_about_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**_: Tensor) -> Tensor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        fuser = Fuser(Visible(), device="cpu")
        monkeypatch.setattr(fuser, "_fuse_luma", fail)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            fuser(ir=levels(20, 24), vis=levels(20, 24))

    def test_the_callers_network_stays_as_it_is(self) -> None:
        network = FusionStudent(1).train()
        Fuser(network, device="cpu")
        assert network.training
