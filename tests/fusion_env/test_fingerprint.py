import os
from pathlib import Path

import pytest
import torch

from fusion_env import fingerprint as module
from fusion_env.fingerprint import fingerprint, sha256_of


def test_known_value() -> None:
    # The first digits of the SHA-256 of "abc", a published test vector (FIPS 180).
    assert fingerprint("abc") == "ba7816bf8f01cfea"


def test_order_layout_and_gradient_do_not_count() -> None:
    a, b = torch.arange(6.0).view(2, 3), torch.ones(2, dtype=torch.bfloat16)
    same = {"b": b.clone(), "a": a.t().contiguous().t().requires_grad_()}
    assert fingerprint("net", {"a": a, "b": b}) == fingerprint("net", same)


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.full((2, 3), -0.0)},
        {},
    ],
)
def test_name_shape_type_and_values_count(other: dict[str, torch.Tensor]) -> None:
    assert fingerprint("net", {"a": torch.zeros(2, 3)}) != fingerprint("net", other)


class TestFiles:
    @pytest.fixture
    def settled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file that was hashed long after it was written."""
        monkeypatch.setattr(module, "_SETTLED_NS", 0)
        path = tmp_path / "file"
        path.write_bytes(b"abc")
        sha256_of(path)
        return path

    def test_known_value(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"abc")
        # FIPS 180.
        assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def test_a_file_that_stays_is_read_once(self, settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = sha256_of(settled)
        monkeypatch.setattr(Path, "open", None)
        assert sha256_of(settled) == before

    def test_a_change_of_equal_length_with_its_time_set_back_is_noticed(self, settled: Path) -> None:
        before, stamps = sha256_of(settled), settled.stat()
        with settled.open("r+b") as file:
            file.seek(1)
            file.write(b"B")
        os.utime(settled, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
        assert sha256_of(settled) != before

    def test_a_change_within_one_tick_of_the_clock_is_noticed(self, tmp_path: Path) -> None:
        path, seen = tmp_path / "file", set()
        for content in range(200):
            path.write_bytes(content.to_bytes(2, "big"))
            seen.add(sha256_of(path))
        assert len(seen) == 200
