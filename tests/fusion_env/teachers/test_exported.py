"""Networks in one file: the same toy network in each format gives the same, and files that do not fit are refused."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env import teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import MissingRequirementsError, TeacherError
from student.weights import WeightsError

SUFFIXES = (".ts", ".pt2", ".onnx")


class Toy(nn.Module):
    """Weighs both images by a filter; the result can leave 0..1 a little."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 1, 3, padding=1)
        weights = torch.linspace(0, scale, self.mix.weight.numel())
        self.mix.weight.data = (weights / weights.sum() * 1.1 * scale).view_as(self.mix.weight)
        self.mix.bias.data.fill_(-0.01)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.mix(torch.cat([ir, vis], dim=1))


class Skip(Toy):
    """Adds a level of half the size, which fails for odd sizes."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        fused = super().forward(ir, vis)
        return (fused + F.interpolate(F.avg_pool2d(fused, 2), scale_factor=2.0)) / 2


class Stretched(Toy):
    """Divides by the brightest infrared value, which is 0 in a black picture."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return ir / ir.amax() + 0 * super().forward(ir, vis)


class FixedSize(Toy):
    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return super().forward(ir, vis).reshape(1, 1, 64, 96)


class Colour(Toy):
    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return super().forward(ir, vis).repeat(1, 3, 1, 1)


def inputs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.rand(batch, channels, height, width, generator=generator) for channels in (1, 3))


def write(network: nn.Module, path: Path) -> Path:
    example = inputs(1, 64, 96)
    height, width = torch.export.Dim("height", min=64), torch.export.Dim("width", min=64)
    axes = {2: height, 3: width}
    if path.suffix == ".ts":
        torch.jit.trace(network, example).save(path)
    elif path.suffix == ".pt2":
        torch.export.save(torch.export.export(network, example, dynamic_shapes=(axes, axes)), path)
    else:
        pytest.importorskip("onnxscript")
        torch.onnx.export(network, example, path, dynamo=True, dynamic_shapes=(axes, axes), verbose=False)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the toy network in a format, exported once."""
    folder, done = tmp_path_factory.mktemp("exported"), {}
    return lambda suffix: done.get(suffix) or done.setdefault(suffix, write(Toy().eval(), folder / f"toy{suffix}"))


@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize("suffix", SUFFIXES)
class TestFormats:
    @torch.inference_mode()
    def test_same_as_the_network(self, exported: Callable[[str], Path], device: str, suffix: str) -> None:
        if suffix == ".onnx":
            pytest.importorskip("onnxruntime")
        teacher = teachers.load("exported", exported(suffix)).to(device)
        ir, vis = inputs(3, 70, 81)
        fused = teacher(ir.to(device), vis.to(device))
        torch.testing.assert_close(fused.cpu(), Toy()(ir, vis).clamp(0, 1), rtol=0, atol=1e-5)
        pair = ImagePair("x", (ir[0] * 255).byte(), (vis[0] * 255).byte())
        assert teacher.fuse_pair(pair).shape == (1, 70, 81)
        grey = vis[:, :1].to(device)
        torch.testing.assert_close(
            teacher.fuse_luma(ir=ir.to(device), vis=grey), teacher(ir.to(device), grey.repeat(1, 3, 1, 1))
        )

    def test_checksum_and_fingerprint(self, exported: Callable[[str], Path], tmp_path: Path, suffix: str) -> None:
        if suffix == ".onnx":
            pytest.importorskip("onnxruntime")
        teacher = teachers.load("exported", exported(suffix))
        assert list(teacher.checksums) == [f"toy{suffix}"]
        assert teachers.load("exported", exported(suffix)).fingerprint() == teacher.fingerprint()
        other = teachers.load("exported", write(Toy(0.9).eval(), tmp_path / f"toy{suffix}"))
        assert other.fingerprint() != teacher.fingerprint()


@pytest.mark.filterwarnings("ignore")  # of the tracer
def test_no_number_names_teacher_and_picture(tmp_path: Path) -> None:
    path = write(Stretched().eval(), tmp_path / "stretched.ts")
    teacher = teachers.load("exported", path)  # the dry run has no black picture
    black = ImagePair("night", torch.zeros(1, 64, 96, dtype=torch.uint8), torch.zeros(3, 64, 96, dtype=torch.uint8))
    expected = f"pair 'night': teacher \"exported\": {path} returned NaN or infinite values."
    with pytest.raises(TeacherError) as caught:
        teacher.fuse_pair(black)
    assert str(caught.value) == expected


@pytest.mark.filterwarnings("ignore")  # of the tracer
@torch.inference_mode()
def test_images_are_padded_where_the_network_needs_it(tmp_path: Path) -> None:
    network = Skip().eval()
    teacher = teachers.load("exported", write(network, tmp_path / "skip.ts"))
    assert "padded to multiples of 8" in teacher.describe()
    ir, vis = inputs(2, 66, 81)
    padded = [F.pad(image, (0, 7, 0, 6), mode="reflect") for image in (ir, vis)]
    torch.testing.assert_close(teacher(ir, vis), network(*padded)[..., :66, :81].clamp(0, 1), rtol=0, atol=1e-5)


class TestErrors:
    @pytest.mark.parametrize("given", [None, "nowhere.pt2", "."])
    def test_no_file(self, tmp_path: Path, given: str | None) -> None:
        with pytest.raises(MissingRequirementsError, match=r'"exported": .*teacher_weights .*\.onnx, \.pt2, \.pt'):
            teachers.load("exported", None if given is None else tmp_path / given)

    def test_other_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "x.bin").touch()
        with pytest.raises(WeightsError, match=r"x\.bin must end in one of \.onnx"):
            teachers.load("exported", tmp_path / "x.bin")

    @pytest.mark.parametrize("suffix", [".pt", *SUFFIXES])
    def test_other_content(self, tmp_path: Path, suffix: str) -> None:
        if suffix == ".onnx":
            pytest.importorskip("onnxruntime")
        file = tmp_path / f"x{suffix}"
        for content in (b"", b"nonsense", pickle.dumps({"a": 1})):
            file.write_bytes(content)
            with pytest.raises(WeightsError, match=rf"x\{suffix} is no .* can read"):
                teachers.load("exported", file)

    def test_a_state_dict(self, tmp_path: Path) -> None:
        torch.save(Toy().state_dict(), tmp_path / "x.pt")
        with pytest.raises(WeightsError, match=r"x\.pt is no TorchScript archive"):
            teachers.load("exported", tmp_path / "x.pt")

    @pytest.mark.filterwarnings("ignore")  # of the tracer
    @pytest.mark.parametrize(
        ("network", "message"),
        [
            (FixedSize(), r"x\.ts does not take .* of any size from 64x64, not even in steps of 32"),
            (Colour(), r"must return fused luma .*\(1, 1, 64, 96\)\. Got torch.float32 \(1, 3, 64, 96\)"),
            (Toy(255.0), r"must return fused luma in 0\.\.1\. Got .* to 2\d\d"),
        ],
    )
    def test_dry_run(self, tmp_path: Path, network: nn.Module, message: str) -> None:
        with pytest.raises(WeightsError, match=message):
            teachers.load("exported", write(copy.deepcopy(network).eval(), tmp_path / "x.ts"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporters
def test_weights_in_a_file_beside_the_graph_are_in_the_fingerprint(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    found = []
    for scale in (1.0, 0.5):
        path = write(Toy(scale).eval(), tmp_path / "toy.onnx")
        model = onnx.load(path)
        settings = {"location": "its weights.bin", "size_threshold": 0, "save_as_external_data": True}
        onnx.save_model(model, path, **settings)
        found.append((path.read_bytes(), teachers.load("exported", path)))
        (tmp_path / "its weights.bin").unlink()
    (graph, first), (same_graph, second) = found
    assert graph == same_graph
    assert "its weights.bin" in first.describe()
    assert first.fingerprint() != second.fingerprint()
