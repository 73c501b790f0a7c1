import pytest
import torch
from torch import Tensor, nn

from fusion_env import teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import ConfigError, TeacherError


def brighter(ir: Tensor, vis: Tensor) -> Tensor:
    return torch.maximum(ir, vis.mean(dim=1, keepdim=True)) * 1.2


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.25))
        self.drop = nn.Dropout(0.9)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.drop(torch.lerp(vis[:, :1], ir, self.weight))


def test_a_function(device: str) -> None:
    teacher = teachers.from_callable(brighter, name="brighter", fingerprint="1").to(device)
    ir, vis = torch.full((2, 1, 8, 9), 0.5, device=device), torch.zeros(2, 3, 8, 9, device=device)
    torch.testing.assert_close(teacher(ir, vis), torch.full_like(ir, 0.6))
    assert teacher(ir * 2, vis).max() == 1
    torch.testing.assert_close(teacher.fuse_luma(ir=ir, vis=vis[:, :1]), torch.full_like(ir, 0.6))
    white = ImagePair("x", torch.full((1, 8, 9), 255, dtype=torch.uint8), torch.zeros(3, 8, 9, dtype=torch.uint8))
    assert teacher.fuse_pair(white).min() == 1
    assert teacher.describe().startswith("brighter (weights given in Python, function 1, ")


def test_no_number() -> None:
    teacher = teachers.from_callable(lambda ir, vis: ir / 0, name="odd", fingerprint="1")
    with pytest.raises(ValueError, match="teacher 'odd' returned NaN or infinite values"):
        teacher(torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match=r"function of teacher 'odd' must be .* Got int"):
        teachers.from_callable(3, name="odd", fingerprint="1")


def test_no_number_names_the_picture() -> None:
    teacher = teachers.from_callable(lambda ir, vis: ir / ir.amax(), name="odd", fingerprint="1")
    black = ImagePair("night", torch.zeros(1, 8, 9, dtype=torch.uint8), torch.zeros(3, 8, 9, dtype=torch.uint8))
    with pytest.raises(TeacherError, match="pair 'night': teacher 'odd' returned NaN or infinite values"):
        teacher.fuse_pair(black)


def test_a_module_is_used_for_inference() -> None:
    teacher = teachers.from_callable(Mix().train(), name="mix")
    fused = teacher(torch.ones(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))
    torch.testing.assert_close(fused, torch.full((1, 1, 4, 4), 0.25))
    assert not fused.requires_grad


def test_fingerprint() -> None:
    def made(**changes: str) -> str:
        return teachers.from_callable(brighter, **{"name": "a", "fingerprint": "1", **changes}).fingerprint()

    assert made() == made()
    assert len({made(), made(name="b"), made(fingerprint="2")}) == 3
    first, second = Mix(), Mix()
    second.weight.data.fill_(0.5)
    assert len({teachers.from_callable(module, name="mix").fingerprint() for module in (first, second)}) == 2
    with pytest.raises(ConfigError, match=r"fingerprint must be given for teacher 'a'.* is a function"):
        teachers.from_callable(brighter, name="a")


class Scaled(Mix):
    def __init__(self, scale: float = 1.0, level: float = 0.0, table: float = 0.0) -> None:
        super().__init__()
        self.scale, self.table = scale, torch.tensor(table)
        self.register_buffer("level", torch.tensor(level), persistent=False)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return super().forward(ir, vis) * self.scale + self.level + self.table


class Other(Scaled):
    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return 1 - super().forward(ir, vis)


def test_all_that_a_module_computes_with_is_in_its_fingerprint() -> None:
    other = type("Scaled", (Scaled,), {"forward": Other.forward})  # the same name, other code
    other.__qualname__ = Scaled.__qualname__
    modules = [Scaled(), Scaled(scale=0.5), Scaled(level=0.1), Scaled(table=0.1), Other(), other()]

    def fingerprints() -> list[str]:
        return [teachers.from_callable(module, name="scaled").fingerprint() for module in modules]

    assert len(set(fingerprints())) == len(modules)
    assert fingerprints() == fingerprints()


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (None, "NoneType"),
        (torch.zeros(1, 3, 8, 8), r"float32 \(1, 3, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8).byte(), "uint8"),
    ],
)
def test_other_results(result: Tensor | None, got: str) -> None:
    teacher = teachers.from_callable(lambda ir, vis: result, name="odd", fingerprint="1")
    with pytest.raises(ValueError, match=rf"teacher 'odd' must return fused luma .*\(1, 1, 8, 8\)\. Got .*{got}"):
        teacher(torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8))
