"""Weights on disk: exact round trips, and a clear error for everything that can be wrong with a file."""

import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from student.network import FusionStudent
from student.weights import WeightsError, load_into, load_metadata, load_state, load_student, save_state


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("this-must-never-exist",)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return FusionStudent(1).state_dict()


class TestRoundTrip:
    def test_safetensors(self, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        path = tmp_path / "new" / "student.safetensors"
        save_state(state, path, metadata={"round": "25"})
        loaded = load_state(path)
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], state[key]) for key in state)
        assert load_metadata(path) == {"round": "25"}
        assert [entry.name for entry in path.parent.iterdir()] == ["student.safetensors"]

    @pytest.mark.parametrize("zipped", [True, False])
    def test_torch_files_whatever_their_name(
        self, state: dict[str, torch.Tensor], tmp_path: Path, zipped: bool
    ) -> None:
        path = tmp_path / "student.safetensors"
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        assert all(torch.equal(value, state[key]) for key, value in load_state(path).items())

    def test_half(self, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        state = {**state, "count": torch.tensor(70_000)}
        save_state(state, tmp_path / "full")
        save_state(state, tmp_path / "half", half=True)
        loaded = load_state(tmp_path / "half")
        assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "full").stat().st_size
        assert loaded["count"] == 70_000
        for key, value in state.items():
            if value.is_floating_point():
                assert loaded[key].dtype is torch.float32
                assert torch.equal(loaded[key], value.half().float())

    def test_shared_and_strided_tensors(self, tmp_path: Path) -> None:
        base = torch.arange(12.0).view(3, 4)
        save_state({"a": base, "b": base.t(), "c": base[:, ::2]}, tmp_path / "w")
        loaded = load_state(tmp_path / "w")
        assert torch.equal(loaded["b"], base.t())
        assert torch.equal(loaded["c"], base[:, ::2])

    def test_overwrites(self, tmp_path: Path) -> None:
        for value in (torch.zeros(1), torch.ones(1)):
            save_state({"a": value}, tmp_path / "w")
        assert load_state(tmp_path / "w")["a"] == 1

    def test_no_metadata(self, tmp_path: Path) -> None:
        save_state({"a": torch.zeros(1)}, tmp_path / "w")
        assert load_metadata(tmp_path / "w") == {}


class TestDamagedFiles:
    def test_missing(self, tmp_path: Path) -> None:
        for read in (load_state, load_metadata):
            with pytest.raises(WeightsError, match=r"nowhere.pt cannot be opened: No such file"):
                read(tmp_path / "nowhere.pt")

    @pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
    @pytest.mark.parametrize("part", [0.03, 0.5, 0.99])
    def test_truncated(self, state: dict[str, torch.Tensor], tmp_path: Path, kind: str, part: float) -> None:
        path = tmp_path / "student.pt"
        if kind == "safetensors":
            save_state(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
        data = path.read_bytes()
        path.write_bytes(data[: int(part * len(data))])
        with pytest.raises(WeightsError, match=r"student.pt (is not a complete|holds Python objects .* damaged)"):
            load_state(path)

    @pytest.mark.parametrize("content", [b"", b"<html>404: not found</html>"])
    def test_other_content(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(WeightsError, match="neither a safetensors nor a PyTorch file"):
            load_state(tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="not a complete safetensors file"):
            load_metadata(tmp_path / "w.pt")

    def test_code_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save({"a": RunsCode()}, "w.pt")
        with pytest.raises(WeightsError, match="could run code and are refused"):
            load_state("w.pt")
        assert not Path("this-must-never-exist").exists()

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_code_in_a_bare_pickle_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, recwarn: pytest.WarningsRecorder
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for content in (RunsCode(), {"a": RunsCode()}, [torch.zeros(1), RunsCode()]):
            Path("w.pt").write_bytes(pickle.dumps(content, protocol))
            for read in (load_state, load_student):
                with pytest.raises(WeightsError, match="could run code and are refused"):
                    read("w.pt")
            assert not Path("this-must-never-exist").exists()
        assert not recwarn.list

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to("loop")
        reasons = {"": "Is a directory", "pipe": "not a regular file", "loop": "Too many levels", "a\0b": "null byte"}
        for name, reason in reasons.items():
            for read in (load_state, load_metadata, load_student):
                with pytest.raises(WeightsError, match=f"^Weights file .* cannot be opened: .*{reason}"):
                    read(tmp_path / name)

    def test_whole_module_is_refused(self, tmp_path: Path) -> None:
        torch.save(FusionStudent(1), tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=r"state_dict\(\) alone"):
            load_state(tmp_path / "w.pt")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([torch.zeros(1)], "holds a list, not a state dict"),
            ({"epoch": 3}, "entry 'epoch' is a int"),
            ({7: torch.zeros(1)}, "7 is a int, not a tensor's name"),
            ({"a": torch.eye(3).to_sparse()}, "'a' is a sparse, nested, quantised or empty"),
            ({"a": torch.ones(2, device="meta")}, "'a' is a sparse, nested, quantised or empty"),
            ({"a": torch.ones(1).expand(10**6, 10**6)}, r"'a' has shape \(1000000, 1000000\), more than the file's"),
        ],
    )
    def test_no_state_dict(self, tmp_path: Path, content: object, message: str) -> None:
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=message):
            load_state(tmp_path / "w.pt")

    def test_a_compressed_archive_is_not_unpacked(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(10**6)}, tmp_path / "w.pt")
        packed = tmp_path / "packed.pt"
        with zipfile.ZipFile(tmp_path / "w.pt") as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.infolist():
                new.writestr(member.filename, old.read(member))
        assert packed.stat().st_size < 10_000
        with pytest.raises(WeightsError, match=r"packed\.pt is a compressed archive"):
            load_state(packed)

    def test_a_type_that_cannot_be_converted(self, tmp_path: Path) -> None:
        header = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
        (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
        with pytest.raises(WeightsError, match=r"w(: 'a' holds torch.float4| is not a complete safetensors file)"):
            load_state(tmp_path / "w")

    @pytest.mark.filterwarnings("error")
    @given(
        st.sampled_from(["zip", "legacy", "safetensors"]),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
        st.floats(0, 1),
    )
    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damaged_files_are_read_or_a_weights_error(
        self, tmp_path: Path, kind: str, changes: list[tuple[float, int]], kept: float
    ) -> None:
        path = tmp_path / "w"
        state = {"first": torch.arange(6.0).view(2, 3), "second": torch.ones(2, dtype=torch.int64)}
        if kind == "safetensors":
            save_state(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
        data = bytearray(path.read_bytes())
        for place, value in changes:
            data[int(place * len(data))] = value
        path.write_bytes(data[: int(kept * len(data)) + 1])
        for read in (load_state, load_metadata, load_student):
            try:
                assert isinstance(read(path), dict)
            except WeightsError as error:
                message = str(error)
                assert str(path) in message

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_non_finite(self, state: dict[str, torch.Tensor], tmp_path: Path, value: float) -> None:
        state["decoder.model_up.10.bias"] = torch.tensor([value])
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=r"NaN or infinite values in 1 of 46 tensors: decoder.model_up.10.bias"):
            load_state(tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="NaN or infinite"):
            save_state(state, tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_too_large_for_half(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="65504"):
            save_state({"a": torch.tensor([1e5])}, tmp_path / "w", half=True)


class TestLoadInto:
    def test_fits(self, state: dict[str, torch.Tensor]) -> None:
        student = FusionStudent(1)
        load_into(student, state, "test")
        assert all(torch.equal(value, state[key]) for key, value in student.state_dict().items())

    def test_keys(self, state: dict[str, torch.Tensor]) -> None:
        student = FusionStudent(1)
        before = {key: value.clone() for key, value in student.state_dict().items()}
        encoder = {key: value for key, value in state.items() if key.startswith("encoder")}
        with pytest.raises(WeightsError) as error:
            load_into(student, {**encoder, "extra": torch.zeros(1)}, "half.pt")
        assert str(error.value) == (
            "half.pt does not fit FusionStudent (46 tensors): 14 missing keys: decoder.model_up.0.bias, "
            "decoder.model_up.0.weight, decoder.model_up.1.beta, ...; 1 unexpected keys: extra."
        )
        assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())

    def test_shapes(self, state: dict[str, torch.Tensor]) -> None:
        state["decoder.model_up.10.bias"] = torch.zeros(2)
        with pytest.raises(WeightsError, match=r"1 wrong shapes: decoder.model_up.10.bias \(2,\) instead of \(1,\)"):
            load_into(FusionStudent(1), state, "test")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda tensor: tensor.long(), "wrong types: .*bias integer instead of floating-point"),
            (lambda tensor: tensor > 0, "wrong types: .*bias boolean instead of floating-point"),
            (lambda tensor: tensor.to(torch.complex64), "wrong types: .*bias complex instead of floating-point"),
        ],
    )
    @pytest.mark.filterwarnings("error")
    def test_kinds(
        self, state: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor], message: str
    ) -> None:
        key = "decoder.model_up.10.bias"
        with pytest.raises(WeightsError, match=message):
            load_into(FusionStudent(1), {**state, key: change(state[key])}, "test")
        load_into(FusionStudent(1), {**state, key: state[key].double()}, "test")

    def test_odd_keys_stay_on_one_line(self, state: dict[str, torch.Tensor]) -> None:
        with pytest.raises(WeightsError, match=r"1 unexpected keys: a\\nb\."):
            load_into(FusionStudent(1), {**state, "a\nb": torch.zeros(1)}, "test")


class TestLoadStudent:
    def test_a_width_that_the_file_does_not_fill_takes_no_memory(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        save_state({**state, "encoder.content_encoder1.model.1.bias": torch.zeros(100_000)}, tmp_path / "w")
        with pytest.raises(WeightsError, match=r"wrong shapes: .* instead of \(100000, 1, 7, 7\)"):
            load_student(tmp_path / "w")

    def test_no_random_numbers_are_drawn(self, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        save_state(state, tmp_path / "w")
        before = torch.get_rng_state()
        student = load_student(tmp_path / "w")
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(value, state[key]) for key, value in student.state_dict().items())

    @pytest.mark.parametrize("width", [1, 3, 8])
    def test_width_is_found(self, tmp_path: Path, width: int) -> None:
        save_state(FusionStudent(width).state_dict(), tmp_path / "w")
        student = load_student(tmp_path / "w")
        assert student.width == width
        assert not student.training

    def test_other_network(self, tmp_path: Path) -> None:
        save_state({"Enc.a": torch.zeros(1)}, tmp_path / "w")
        with pytest.raises(WeightsError, match="does not fit FusionStudent"):
            load_student(tmp_path / "w")


class TestWrappedNetworks:
    """DataParallel and torch.compile rename what they wrap; a file that was saved so is read all the same."""

    @pytest.mark.parametrize(
        ("rename", "named"),
        [
            (lambda i, key: f"module.{key}", "module. (DataParallel)"),
            (lambda i, key: f"_orig_mod.{key}", "_orig_mod. (torch.compile)"),
            (lambda i, key: f"module.module.{key}", "module. (DataParallel)"),
            (lambda i, key: f"_orig_mod.module.{key}", "module. (DataParallel) and _orig_mod. (torch.compile)"),
            (lambda i, key: f"module.{key}" if i % 2 else key, "module. (DataParallel)"),
            (lambda i, key: key.replace("encoder.", "encoder._orig_mod.", 1), "_orig_mod. (torch.compile)"),
        ],
    )
    def test_read_and_said_in_one_line(
        self,
        state: dict[str, torch.Tensor],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        rename: Callable[[int, str], str],
        named: str,
    ) -> None:
        save_state({rename(i, key): value for i, (key, value) in enumerate(state.items())}, tmp_path / "wrapped")
        student = load_student(tmp_path / "wrapped")
        assert all(torch.equal(value, state[key]) for key, value in student.state_dict().items())
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path / 'wrapped'}: {named} in the names of its tensors is left out"
        ]

    def test_real_wrappers(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        state = nn.DataParallel(torch.compile(network)).state_dict()
        assert next(iter(state)) == "module._orig_mod.0.weight"
        other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        load_into(other, state, "a wrapped network")
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())

    def test_nothing_is_said_of_other_files(
        self, state: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        save_state(state, tmp_path / "plain")
        load_student(tmp_path / "plain")
        assert not caplog.records

    def test_names_that_would_collide_stay(self, state: dict[str, torch.Tensor]) -> None:
        key = next(iter(state))
        double = {**state, f"module.{key}": state[key] + 1}
        with pytest.raises(WeightsError, match=rf"1 unexpected keys: module\.{re.escape(key)}"):
            load_into(FusionStudent(1), double, "both")

    def test_a_name_of_the_networks_own_stays(self) -> None:
        network = nn.ModuleDict({"module": nn.Linear(2, 1)})
        load_into(network, {"module.weight": torch.ones(1, 2), "module.bias": torch.ones(1)}, "own")
        assert network["module"].bias == 1

    def test_names_are_reported_as_they_are_in_the_file(self, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
        save_state({f"module.other.{key}": value for key, value in state.items()}, tmp_path / "other")
        with pytest.raises(WeightsError, match=r"unexpected keys: module\.other\."):
            load_student(tmp_path / "other")
