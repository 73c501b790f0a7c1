"""What networks with published weights share: files found and loaded strictly, one interface, images fused apart."""

import os
import pickle
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fusion_env import teachers
from fusion_env.errors import MissingRequirementsError
from fusion_env.fingerprint import sha256_of
from student.weights import WeightsError, save_state

NETWORKS = {
    "ldfusion": teachers.LDFusion,
    "sage": teachers.SAGE,
    "timfusion": teachers.TIMFusion,
    "kdfuse": teachers.KDFuse,
}
Files = Callable[[str], Path]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=NETWORKS)
def teacher(request: pytest.FixtureRequest) -> teachers.Teacher:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[request.param]().eval().requires_grad_(False)


class TestInterface:
    @torch.inference_mode()
    def test_odd_sizes_and_batches(self, teacher: teachers.Teacher, device: str) -> None:
        teacher.to(device)
        ir, vis = draw(3, 1, 65, 66).to(device), draw(3, 3, 65, 66, seed=1).to(device)
        together = teacher(ir, vis)
        alone = torch.cat([teacher(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
        assert together.shape == ir.shape
        assert 0 <= together.min() < together.max() <= 1
        torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)
        teacher.to("cpu")

    @torch.inference_mode()
    def test_inputs_and_tensors_stay_as_they_were(self, teacher: teachers.Teacher) -> None:
        ir, vis = draw(1, 1, 64, 64), draw(1, 3, 64, 64, seed=1)
        before = teacher.fingerprint()
        first = teacher(ir, vis)
        assert torch.equal(ir, draw(1, 1, 64, 64))
        assert torch.equal(vis, draw(1, 3, 64, 64, seed=1))
        assert torch.equal(teacher(ir, vis), first)
        assert teacher.fingerprint() == before

    def test_wrong_shapes(self, teacher: teachers.Teacher) -> None:
        with pytest.raises(ValueError, match="vis must be RGB"):
            teacher(torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))

    def test_origin_is_stated(self, teacher: teachers.Teacher) -> None:
        assert teacher.published.repository.startswith("github.com/")
        assert teacher.published.licence
        assert teacher.published.files


BATCHES = {
    "float16": (
        torch.zeros(1, 1, 64, 64).half(),
        torch.zeros(1, 3, 64, 64).half(),
        r"ir .* float32 .* Got torch\.float16",
    ),
    "float64": (torch.zeros(1, 1, 64, 64), torch.zeros(1, 3, 64, 64).double(), r"vis .* float32 .* Got torch\.float64"),
    "uint8": (torch.zeros(1, 1, 64, 64).byte(), torch.zeros(1, 3, 64, 64).byte(), r"ir .* float32 .* Got torch\.uint8"),
    "array": (torch.zeros(1, 1, 64, 64).numpy(), torch.zeros(1, 3, 64, 64), "ir .* float32 .* Got ndarray"),
    "levels": (torch.zeros(1, 1, 64, 64), torch.full((1, 3, 64, 64), 255.0), r"vis must be in 0\.\.1.* Got 255 to 255"),
    "signed": (torch.full((1, 1, 64, 64), -1.0), torch.zeros(1, 3, 64, 64), r"ir must be in 0\.\.1.* Got -1 to -1"),
    "nan": (torch.full((1, 1, 64, 64), torch.nan), torch.zeros(1, 3, 64, 64), r"ir must be in 0\.\.1.* Got nan"),
    "empty": (torch.zeros(0, 1, 64, 64), torch.zeros(0, 3, 64, 64), r"B at least 1\. Got \(0, 1, 64, 64\)"),
    "sizes": (torch.zeros(1, 1, 64, 64), torch.zeros(1, 3, 64, 65), r"vis must be RGB .* Got \(1, 3, 64, 65\)"),
    "small": (torch.zeros(1, 1, 64, 1), torch.zeros(1, 3, 64, 1), r"at least \d+ pixels\. Got \(64, 1\)"),
}


@pytest.mark.parametrize("name", ["sage", "timfusion", "kdfuse", "dcevo", "text_if", "ldfusion"])
@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_are_refused(name: str, case: str) -> None:
    with torch.device("meta"):  # the inputs are refused before any weight is read
        teacher = teachers.get(name)()
    ir, vis, message = BATCHES[case]
    with pytest.raises(ValueError, match=message):
        teacher(ir, vis)


class TestFiles:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_folder_file_and_own_layout(self, official_files: Files, tmp_path: Path, name: str) -> None:
        folder = official_files(name)
        files = NETWORKS[name].published.files
        loaded = teachers.load(name, folder)
        assert loaded.checksums == {file: sha256_of(folder / file) for file in files}
        assert all(file in loaded.describe() and loaded.checksums[file][:12] in loaded.describe() for file in files)
        save_state(loaded.state_dict(), tmp_path / "own.safetensors")
        for source in (folder / files[-1], tmp_path / "own.safetensors"):
            assert teachers.load(name, source).fingerprint() == loaded.fingerprint()

    @pytest.mark.parametrize("name", ["sage", "timfusion"])
    def test_saved_from_a_wrapped_network(
        self, official_files: Files, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        official = official_files(name)
        expected = teachers.load(name, official)
        files = NETWORKS[name].published.files
        for file in files:
            state = torch.load(official / file)
            torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / file)
        own = {f"_orig_mod.module.{key}": value for key, value in expected.state_dict().items()}
        save_state(own, tmp_path / "own.safetensors")
        assert teachers.load(name, tmp_path).fingerprint() == expected.fingerprint()
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path / file}: module. (DataParallel) in the names of its tensors is left out" for file in files
        ]
        assert teachers.load(name, tmp_path / "own.safetensors").fingerprint() == expected.fingerprint()

    @pytest.mark.parametrize("name", NETWORKS)
    def test_a_renamed_key(self, official_files: Files, tmp_path: Path, name: str) -> None:
        shutil.copytree(official_files(name), tmp_path / name)
        file = tmp_path / name / NETWORKS[name].published.files[-1]
        state = torch.load(file)
        key = sorted(state)[-1]
        torch.save(OrderedDict((f"{k}_old" if k == key else k, v) for k, v in state.items()), file)
        with pytest.raises(WeightsError) as error:
            teachers.load(name, tmp_path / name)
        for part in (str(file), f"1 missing keys: {key}", f"1 unexpected keys: {key}_old", "github.com/"):
            assert part in str(error.value)

    @pytest.mark.parametrize("change", ["shape", "nan", "number", "sparse", "huge"])
    def test_values_that_do_not_fit(self, official_files: Files, tmp_path: Path, change: str) -> None:
        state = torch.load(official_files("sage") / "checkpoints.pt")
        bias = state["module1.0.bias"]
        state["module1.0.bias"] = {
            "shape": bias[:5],
            "nan": bias / 0 - bias / 0,
            "number": 3,
            "sparse": bias.to_sparse(),
            "huge": bias[:1].expand(1 << 45),  # one stored number that would fill any memory
        }[change]
        torch.save(state, tmp_path / "x.pt")
        message = {
            "shape": "wrong shapes: module1.0.bias",
            "nan": "NaN or infinite",
            "number": "is a int, not a tensor",
            "sparse": "'module1.0.bias' is a sparse",
            "huge": "wrong shapes: module1.0.bias",
        }
        with pytest.raises(WeightsError, match=message[change]):
            teachers.load("sage", tmp_path / "x.pt")

    def test_a_key_that_is_no_name(self, tmp_path: Path) -> None:
        torch.save({1: torch.zeros(2)}, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match="1 is a int, not a tensor's name"):
            teachers.load("sage", tmp_path / "x.pt")

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut", pickle.dumps([1, 2], 2)])
    def test_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(WeightsError, match=r"x\.pt .*github\.com/RollingPlain/SAGE_IVIF"):
            teachers.load("sage", tmp_path / "x.pt")

    @pytest.mark.parametrize("name", NETWORKS)
    def test_code_is_refused_and_not_run(self, tmp_path: Path, name: str) -> None:
        class Malicious:
            def __reduce__(self) -> tuple:
                return os.mkdir, (str(tmp_path / "was here"),)

        for file in NETWORKS[name].published.files:
            torch.save({"weight": Malicious()}, tmp_path / file)
        with pytest.raises(WeightsError, match="could run code and are refused"):
            teachers.load(name, tmp_path)
        assert not (tmp_path / "was here").exists()

    def test_a_refusal_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "x.pt").write_bytes(pickle.dumps(Path("anything"), protocol=4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(WeightsError, match="are refused") as error:
                teachers.load("sage", tmp_path / "x.pt")
        assert "\n" not in str(error.value)


class TestFinding:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.delenv("FUSION_ENV_WEIGHTS", raising=False)
        published = NETWORKS[name].published
        for given, problem in ((None, "no weights are given"), (tmp_path / "x", "not exist"), (tmp_path, "has no")):
            with pytest.raises(MissingRequirementsError, match=problem) as error:
                teachers.load(name, given)
            for part in (*published.files, published.repository, "teacher_weights", "FUSION_ENV_WEIGHTS"):
                assert part in str(error.value)
            assert teachers.missing(name, given) == str(error.value)

    def test_nothing_is_missing(self, official_files: Files) -> None:
        assert teachers.missing("sage", str(official_files("sage"))) is None

    def test_every_teacher_can_say_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FUSION_ENV_WEIGHTS", raising=False)
        missing = {name: teachers.missing(name) for name in teachers.names()}
        assert missing["laplacian"] is missing["embedded"] is None
        assert "Enc_final.pt" in missing["ldfusion"]

    def test_weights_folder(self, official_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(official_files("timfusion"), tmp_path / "timfusion")
        monkeypatch.setenv("FUSION_ENV_WEIGHTS", str(tmp_path))
        assert teachers.load("timfusion").checksums == teachers.load("timfusion-eval").checksums != {}
        with pytest.raises(MissingRequirementsError, match="sage does not exist"):
            teachers.load("sage")
