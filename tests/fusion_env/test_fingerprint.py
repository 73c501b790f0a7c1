import pytest
import torch

from fusion_env.fingerprint import fingerprint


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
