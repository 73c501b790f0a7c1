"""Networks exported to one file, code and weights together: TorchScript, torch.export, ONNX."""

import importlib.util
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.errors import MissingRequirementsError
from fusion_env.fingerprint import fingerprint, sha256_of
from fusion_env.teachers.base import Teacher, check_batch, check_fused
from fusion_env.teachers.registry import register
from student.weights import WeightsError

__all__ = ["ExportedTeacher"]

_DRY_RUN_SIZES = ((64, 96), (75, 70))
_MULTIPLES = (1, 8, 32)
_RANGE_MARGIN = 0.5


@register("exported")
class ExportedTeacher(Teacher):
    """A network in one file: TorchScript (.pt, .pth, .ts), torch.export (.pt2) or ONNX (.onnx, through onnxruntime).

    The exported function takes two float32 inputs in this order, infrared [1, 1, H, W] and visible RGB [1, 3, H, W],
    both in 0..1, and returns fused luma [1, 1, H, W] in 0..1. H and W must be dynamic, at least in steps of 8 or 32:
    which of these it needs is tried at loading, and images are padded to them by reflection, at the bottom and right.
    Images are given to it one at a time. Small excursions from 0..1 are clamped.

    Trust: the first two formats contain programs. TorchScript runs in PyTorch's interpreter, and a .pt2 archive may
    hold pickled objects, which can do anything when they are read: load such a file only if you trust its maker. ONNX
    holds a graph of known operations. ONNX runs on the CPU.

    Args:
        network: Runs the file.
        source: The file, for error messages.
        sha256: Its checksum.

    Raises:
        WeightsError: If a dry run on two sizes fails or returns anything but fused luma in 0..1.
    """

    def __init__(self, network: nn.Module, source: Path, sha256: str) -> None:
        super().__init__()
        self.network = network
        self.source = source
        self.checksums = {source.name: sha256}
        self._settle_multiple()
        if self.multiple > 1:
            self.settings["padded to multiples of"] = self.multiple

    @classmethod
    def from_weights(cls, weights: Path | None) -> "ExportedTeacher":
        """Load an exported file.

        Args:
            weights: The file; its suffix tells the format.

        Raises:
            MissingRequirementsError: If no file is named, it does not exist, or onnxruntime is needed and missing.
            student.WeightsError: If it cannot be loaded, or fails the dry run.
        """
        if weights is None or not weights.is_file():
            given = "no file is given" if weights is None else f"{weights} is no file"
            raise MissingRequirementsError(
                f'teacher "exported": {given}; let the setting teacher_weights point to one ({", ".join(_LOADERS)}).'
            )
        loader = _LOADERS.get(weights.suffix.lower())
        if loader is None:
            raise WeightsError(f'teacher "exported": {weights} must end in one of {", ".join(_LOADERS)}.')
        teacher = cls(loader(weights), weights, sha256_of(weights))
        teacher.checksums |= {file.name: sha256_of(file) for file in _external_data(weights)}
        return teacher

    def train(self, mode: bool = True) -> "ExportedTeacher":
        """Do nothing: exported networks are fixed, and some refuse the call."""
        return self

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs; see `Teacher.forward`."""
        check_batch(ir=ir, vis=vis)
        return torch.cat([self._fuse_one(*pair) for pair in zip(ir.split(1), vis.split(1), strict=True)]).clamp(0, 1)

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse with the visible image as grey RGB; see `Teacher.fuse_luma`."""
        return self(ir=ir, vis=vis.repeat(1, 3, 1, 1))

    def fingerprint(self) -> str:
        """Hash the file, and those with its weights, in addition to what `Teacher.fingerprint` hashes."""
        return fingerprint("/".join((super().fingerprint(), *self.checksums.values())))

    def _fuse_one(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse one pair, padded to the multiple; not clamped."""
        height, width = ir.shape[-2:]
        margins = (0, -width % self.multiple, 0, -height % self.multiple)
        ir, vis = (F.pad(image, margins, mode="reflect") for image in (ir, vis))
        return check_fused(self.network(ir, vis), ir, f'teacher "exported": {self.source}')[..., :height, :width]

    def _settle_multiple(self) -> None:
        """Pad to the smallest of the known multiples with which a dry run on two sizes succeeds."""
        for multiple in _MULTIPLES:
            self.multiple = multiple
            try:
                fused = self._dry_run()
                break
            except Exception as error:  # whatever the exported program raises
                problem = error
        else:
            raise WeightsError(
                f'teacher "exported": {self.source} does not take ir [1, 1, H, W] and vis RGB [1, 3, H, W] of any size '
                f"from 64x64, not even in steps of {_MULTIPLES[-1]}: {_first_line(problem)}"
            ) from problem
        low, high = float(fused.min()), float(fused.max())
        if not (low >= -_RANGE_MARGIN and high <= 1 + _RANGE_MARGIN):
            raise WeightsError(
                f'teacher "exported": {self.source} must return fused luma in 0..1. Got {low:.3g} to {high:.3g}.'
            )

    @torch.inference_mode()
    def _dry_run(self) -> Tensor:
        """Fuse noise of two sizes; return all values."""
        generator = torch.Generator().manual_seed(0)
        sizes = [[1, channels, *size] for size in _DRY_RUN_SIZES for channels in (1, 3)]
        images = [torch.rand(size, generator=generator) for size in sizes]
        return torch.cat([self._fuse_one(*pair).flatten() for pair in (images[:2], images[2:])])


class _OnnxNetwork(nn.Module):
    """An ONNX graph in an onnxruntime session on the CPU."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingRequirementsError(
                f'teacher "exported": {path} needs onnxruntime; in the folder of fusion-env: pip install -e ".[export]"'
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [item.name for item in self.session.get_inputs()]

    def forward(self, *images: Tensor) -> Tensor:
        """Run the graph; inputs go by order, whatever their names."""
        feed = {name: image.cpu().numpy() for name, image in zip(self.inputs, images, strict=True)}
        (fused,) = self.session.run(None, feed)
        return torch.from_numpy(fused).to(images[0].device)


def _external_data(path: Path) -> list[Path]:
    """List the files beside an ONNX graph that hold its weights, as ``torch.onnx.export`` writes them by default."""
    if path.suffix.lower() != ".onnx":
        return []
    # ONNX names each in an entry of protobuf's: key "location" (field 1, 8 bytes), value (field 2, its length, text).
    graph, names = path.read_bytes(), set()
    for entry in re.finditer(rb"\n\x08location\x12([\x80-\xff]*[\x00-\x7f])", graph):
        length = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(entry[1]))
        names.add(graph[entry.end() : entry.end() + length].decode(errors="replace"))
    return [file for file in (path.parent / name for name in sorted(names)) if file.is_file()]


def _load_torchscript(path: Path) -> nn.Module:
    with path.open("rb") as file, warnings.catch_warnings():
        # Newer versions of PyTorch advise against the format on every load; the file's user cannot act on that.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(file, map_location="cpu").eval()


def _load_pt2(path: Path) -> nn.Module:
    if not zipfile.is_zipfile(path):  # PyTorch would log a page about it before it raises
        raise ValueError("it is no zip archive")
    return torch.export.load(path).module()


def _loader(load: Callable[[Path], nn.Module], what: str) -> Callable[[Path], nn.Module]:
    """Turn whatever a library raises about a file into one error that names it."""

    def loader(path: Path) -> nn.Module:
        try:
            return load(path)
        except MissingRequirementsError:
            raise
        except Exception as error:  # the libraries document no exception types
            raise WeightsError(
                f'teacher "exported": {path} is no {what} that this version can read: {_first_line(error)}'
            ) from error

    return loader


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]


_LOADERS = {
    ".onnx": _loader(_OnnxNetwork, "ONNX file"),
    ".pt2": _loader(_load_pt2, "torch.export archive"),
    **dict.fromkeys((".pt", ".pth", ".ts"), _loader(_load_torchscript, "TorchScript archive")),
}
