from pathlib import Path

import pytest
import torch

from fusion_env.cache import cache_folder, content_key, load_or_compute
from fusion_env.errors import CacheError


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.uint8)}


def test_computed_once(tmp_path: Path) -> None:
    compute, path = Counter(), tmp_path / "new" / "x.safetensors"
    first, second = load_or_compute(path, compute), load_or_compute(path, compute)
    assert compute.calls == 1
    assert all(torch.equal(first[name], second[name]) for name in ("a", "b"))


@pytest.mark.parametrize("damage", ["truncate", "flip", "garbage", "empty"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str) -> None:
    compute, path = Counter(), tmp_path / "x.safetensors"
    load_or_compute(path, compute)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"truncate": bytes(data[:-3]), "flip": bytes(data), "garbage": b"hello", "empty": b""}[damage])
    assert torch.equal(load_or_compute(path, compute)["a"], torch.arange(4.0))
    assert compute.calls == 2
    load_or_compute(path, compute)
    assert compute.calls == 2


def test_key_depends_on_values_not_on_order() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cache_dir"):
        load_or_compute(tmp_path / "file" / "x.safetensors", Counter())


def test_folder_setting_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSION_ENV_CACHE", str(tmp_path))
    assert cache_folder(None) == tmp_path
    assert cache_folder("/elsewhere") == Path("/elsewhere")
