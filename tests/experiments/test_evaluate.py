"""The comparison of fusion methods from folders of images."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from experiments.evaluate import DEFAULT_METRICS, PRESETS, evaluate, main
from experiments.evaluation.folders import find_images
from fusion_env import metrics
from fusion_env.data import luma_levels, read_luma, read_visible
from fusion_env.errors import ConfigError, DataError, UnknownNameError
from fusion_env.perception.clip_iqa import PROMPTS, load_clip_iqa
from fusion_env.perception.clip_weights import untrained_clip
from student.weights import save_state

NAMES = ("a", "b", "c.d", "e")
SELECTED = ("ag", "sd", "vif", "ssim")


def picture(seed: int, size: tuple[int, ...] = (48, 64)) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, *size[2:]), dtype=np.uint8)
    enlarged = np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.int16)
    return np.clip(enlarged + random.integers(-12, 13, size), 0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Four pairs in PNG; method ``one`` writes grey PNG, ``two`` colour JPEG; sizes differ between pairs."""
    for side in ("ir", "vi", "one", "two"):
        (tmp_path / side).mkdir()
    for i, name in enumerate(NAMES):
        size = (48 + i, 64 - i)
        Image.fromarray(picture(4 * i, size)).save(tmp_path / "ir" / f"{name}.png")
        Image.fromarray(picture(4 * i + 1, (*size, 3))).save(tmp_path / "vi" / f"{name}.PNG")
        Image.fromarray(picture(4 * i + 2, size)).save(tmp_path / "one" / f"{name}.png")
        Image.fromarray(picture(4 * i + 3, (*size, 3))).save(tmp_path / "two" / f"{name}.jpg", quality=90)
    return tmp_path


@pytest.fixture
def command(folders: Path) -> Callable[..., list[str]]:
    def build(*more: str) -> list[str]:
        fused = [f"one={folders / 'one'}", f"two={folders / 'two'}"]
        sources = ["--ir", str(folders / "ir"), "--vi", str(folders / "vi")]
        return [*sources, "--fused", *fused, "--out", str(folders / "out"), "--metrics", *SELECTED, *more]

    return build


def fused(folders: Path) -> dict[str, Path]:
    return {"one": folders / "one", "two": folders / "two"}


def test_values_are_those_of_the_metrics(folders: Path) -> None:
    images, summary = evaluate(fused(folders), SELECTED, ir=folders / "ir", vis=folders / "vi")
    assert list(images.columns) == ["method", "image", *SELECTED]
    assert [(row.method, row.image) for row in images.itertuples()] == [(m, n) for m in ("one", "two") for n in NAMES]
    ir = torch.from_numpy(np.array(Image.open(folders / "ir/c.d.png")))[None, None]
    vis = luma_levels(torch.from_numpy(np.array(Image.open(folders / "vi/c.d.PNG"))).permute(2, 0, 1)[None])
    jpeg = luma_levels(torch.from_numpy(np.array(Image.open(folders / "two/c.d.jpg"))).permute(2, 0, 1)[None])
    expected = metrics.compute(SELECTED, jpeg, ir=ir, vis=vis)
    row = images[(images.method == "two") & (images.image == "c.d")].iloc[0]
    for name in SELECTED:
        assert row[name] == pytest.approx(float(expected[name]), rel=1e-6), name
    means = summary.set_index(["method", "metric"])["mean"]
    for method in ("one", "two"):
        for name in SELECTED:
            assert means[method, name] == pytest.approx(images.loc[images.method == method, name].mean())
    assert (summary["n"] == len(NAMES)).all()


def test_every_problem_is_listed_and_nothing_is_scored(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "one/a.png").unlink()
    whole = (folders / "two/b.jpg").read_bytes()
    (folders / "two/b.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture(0, (30, 30))).save(folders / "two/e.jpg")
    Image.fromarray(picture(0, (50, 60))).save(folders / "ir/c.d.png")
    with pytest.raises(DataError) as caught:
        evaluate(fused(folders), SELECTED, ir=folders / "ir", vis=folders / "vi")
    lines = str(caught.value).splitlines()
    assert lines[0] == "cannot compare these images (4 problems):"
    assert "allow_missing" not in str(caught.value)  # nothing is complete
    assert any("one: no image called 'a'" in line for line in lines)
    assert any("b.jpg: cannot be read" in line for line in lines)
    assert any("e.jpg: 30 x 30 pixels" in line and "51 x 61" in line for line in lines)
    assert any("c.d.png: 50 x 60 pixels" in line and "50 x 62" in line for line in lines)


def test_all_of_many_problems_are_listed(folders: Path) -> None:
    for i in range(50):
        shutil.copy(folders / "ir/a.png", folders / f"ir/more{i}.png")
        shutil.copy(folders / "vi/a.PNG", folders / f"vi/more{i}.png")
    with pytest.raises(DataError) as caught:
        evaluate(fused(folders), SELECTED, ir=folders / "ir", vis=folders / "vi")
    for i in range(50):
        assert str(caught.value).count(f"'more{i}'") == 2


def test_unpaired_sources_and_double_names_are_problems(folders: Path) -> None:
    (folders / "ir/a.png").unlink()
    (folders / "vi/b.PNG").unlink()
    shutil.copy(folders / "one/e.png", folders / "one/e.bmp")
    with pytest.raises(DataError, match=r"3 problems") as caught:
        evaluate(fused(folders), SELECTED, ir=folders / "ir", vis=folders / "vi")
    advice = "evaluate's allow_missing, on its command line --allow-missing, "
    for text in ("ir: no image called 'a'", "vi: no image called 'b'", "e.bmp and e.png have the same name", advice):
        assert text in str(caught.value)


def test_images_too_small_for_a_metric_are_problems(folders: Path) -> None:
    for side, suffix in (("ir", "png"), ("vi", "PNG"), ("one", "png"), ("two", "jpg")):
        Image.open(folders / side / f"a.{suffix}").crop((0, 0, 40, 40)).save(folders / side / f"a.{suffix}")
    with pytest.raises(DataError, match=r"40 x 40 pixels; the metrics need sides of 41 or more"):
        evaluate(fused(folders), SELECTED, ir=folders / "ir", vis=folders / "vi")
    assert len(evaluate(fused(folders), ["sd"], ir=folders / "ir", vis=folders / "vi").images) == 8


def test_allow_missing_compares_the_common_images_and_says_so(
    folders: Path, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    complete = evaluate(fused(folders), SELECTED, ir=folders / "ir", vis=folders / "vi").images
    (folders / "one/a.png").unlink()
    (folders / "two/b.jpg").write_bytes(b"no image")
    shutil.copy(folders / "one/e.png", folders / "one/alone.png")
    assert main(command("--allow-missing")) == 0
    screen = capsys.readouterr().out
    report = (folders / "out/summary.md").read_text()
    for text in (screen, report):
        assert "LEFT OUT for all methods: 2 of 4 images." in text
        assert "no image called 'a'" in text
        assert "b.jpg" in text
        assert "one: not scored, as they belong to no pair: alone" in text
    images = pd.read_csv(folders / "out/images.csv")
    kept = complete[complete.image.isin(["c.d", "e"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(images, kept, rtol=1e-7)
    summary = pd.read_csv(folders / "out/summary.csv")
    assert (summary["n"] == 2).all()
    assert (summary["left_out"] == 2).all()


def test_allow_missing_is_logged_by_the_function(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folders / "one/a.png").unlink()
    evaluate(fused(folders), ["sd"], ir=folders / "ir", vis=folders / "vi", allow_missing=True)
    assert "LEFT OUT for all methods: 1 of 4" in caplog.text


def test_nothing_in_common_is_an_error(folders: Path) -> None:
    for path in [*(folders / "one").iterdir()]:
        path.rename(path.with_stem(f"{path.stem}_fused"))
    with pytest.raises(DataError, match="no pair is usable") as caught:
        evaluate(fused(folders), ["sd"], ir=folders / "ir", vis=folders / "vi", allow_missing=True)
    assert "(one has 4 images that belong to no pair: a_fused, b_fused, c.d_fused, ...)" in str(caught.value)


def test_outputs(folders: Path, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--grid", "e", "a")) == 0
    out = folders / "out"
    assert sorted(path.name for path in out.iterdir()) == ["grid.png", "images.csv", "summary.csv", "summary.md"]
    summary = pd.read_csv(out / "summary.csv", keep_default_na=False)
    assert list(summary.columns) == ["method", "metric", "mean", "ci_low", "ci_high", "n", "place", "left_out"]
    report = (out / "summary.md").read_text()
    assert report.splitlines()[4] == "| method | n | ag | sd | vif | ssim |"
    for name in SELECTED:
        rows = summary[summary.metric == name].set_index("method")
        assert rows["place"].to_dict() == {
            rows["mean"].idxmax(): "best",
            rows["mean"].idxmin(): "second",
        }
        assert metrics.get(name).summary in report
    assert report.count("**") == 2 * len(SELECTED) + 2  # one best in each column, and the word in the legend
    assert "| one | 4 | " in capsys.readouterr().out
    width, height = Image.open(out / "grid.png").size
    assert 4 * 300 < width < 6 * 400
    assert height < width


def test_presets_and_defaults_exist() -> None:
    assert PRESETS["agentfuse-paper"] == ("ag_forward", "sf_uint8", "ei", "en", "viff")
    for name in (*DEFAULT_METRICS, *PRESETS["agentfuse-paper"]):
        assert metrics.get(name).name == name


def test_paper_preset_chooses_the_columns(folders: Path, command: Callable[..., list[str]]) -> None:
    arguments = command()
    cut = arguments.index("--metrics")
    assert main([*arguments[:cut], "--preset", "agentfuse-paper"]) == 0
    columns = list(pd.read_csv(folders / "out/images.csv").columns)
    assert columns == ["method", "image", "ag_forward", "sf_uint8", "ei", "en", "viff"]


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["--grid", "f"], UnknownNameError, "image of --grid 'f'"),
        (["--metrics", "vfi"], UnknownNameError, "vfi"),
        (["--metrics", "sd", "sd"], ConfigError, "different ones"),
        (["--fused", "one=elsewhere"], ConfigError, "every method once"),
        (["--fused", "three=elsewhere"], DataError, "elsewhere: no such folder"),
        (["--resamples", "0"], ConfigError, "at least 1. Got 0"),
        (["--seed", "-1"], ConfigError, "at least 0. Got -1"),
        (["--clip-colour"], ConfigError, "need clip_iqa among the metrics"),
        (["--clip-weights", "clip.pt", "--clip-prompts", "agent"], UnknownNameError, "'agentfuse'"),
    ],
)
def test_wrong_options_are_explained(
    more: list[str], error: type[Exception], message: str, folders: Path, command: Callable[..., list[str]]
) -> None:
    with pytest.raises(error, match=message):
        main(command(*more))
    assert not (folders / "out").exists()


def test_the_folder_for_results_is_tried_before_scoring(folders: Path, command: Callable[..., list[str]]) -> None:
    (folders / "out").write_text("a file")
    with pytest.raises(ConfigError, match="--out must be a folder that can be written"):
        main(command())


@pytest.mark.parametrize("side", ["ir", "vi", "one"])
def test_results_never_come_between_images(folders: Path, command: Callable[..., list[str]], side: str) -> None:
    before = sorted((folders / side).iterdir())
    with pytest.raises(ConfigError, match=f"{side} is a folder of images to compare; choose another --out"):
        main(command("--out", str(folders / side)))
    assert sorted((folders / side).iterdir()) == before


def test_values_that_are_not_finite_are_named(folders: Path, command: Callable[..., list[str]]) -> None:
    for side in ("ir", "one"):
        shutil.copy(folders / "vi/a.PNG", folders / side / "a.png")
    arguments = command("--resamples", "50")
    arguments[arguments.index("ag")] = "psnr"
    assert main(arguments) == 0
    report = (folders / "out/summary.md").read_text()
    assert "one: psnr is NaN or infinite for 1 image; see images.csv" in report
    assert report.count("NaN or infinite") == 1
    assert "| one | 4 | **inf** | " in report


def test_images_that_are_left_out_cannot_be_shown(folders: Path, command: Callable[..., list[str]]) -> None:
    (folders / "one/a.png").unlink()
    with pytest.raises(ConfigError, match="'a', which is left out: .*no image called 'a'"):
        main(command("--allow-missing", "--grid", "a"))


def test_sixteen_bit_and_colour_files_read_like_the_package_reads_them(folders: Path) -> None:
    levels = np.asarray(Image.open(folders / "one/a.png"))
    Image.fromarray(levels.astype(np.uint16) * 257).save(folders / "one/a.png")
    grey = np.asarray(Image.open(folders / "one/b.png"))
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(folders / "one/b.png")
    assert (read_luma(folders / "one/a.png") == levels).all()
    images = evaluate({"one": folders / "one"}, ["sd"], ir=folders / "ir", vis=folders / "vi").images.set_index("image")
    assert images.loc["a", "sd"] == pytest.approx(levels.std(), rel=1e-5)
    assert images.loc["b", "sd"] == pytest.approx(grey.std(), rel=1e-5)


@pytest.mark.parametrize("option", [["--bit-depth", "8"], ["--stretch"]])
def test_sixteen_bit_files_of_unknown_range(
    folders: Path, command: Callable[..., list[str]], option: list[str]
) -> None:
    levels = np.asarray(Image.open(folders / "one/a.png"))
    Image.fromarray(levels.astype(np.uint16)).save(folders / "one/a.png")
    with pytest.raises(DataError, match=r"a\.png: 16-bit values span only"):
        main(command())
    assert main(command(*option)) == 0
    assert "16-bit pictures" in (folders / "out/summary.md").read_text(encoding="utf-8")
    images = pd.read_csv(folders / "out/images.csv")
    value = images[(images.method == "one") & (images.image == "a")]["sd"].item()
    assert value == pytest.approx(levels.std(), rel=1e-5 if "8" in option else 0.1)


def test_side_files_are_ignored(folders: Path) -> None:
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (folders / "one" / name).write_text("x")
    found = find_images(fused(folders), ir=folders / "ir", vis=folders / "vi")
    assert tuple(found.files) == NAMES
    assert not found.unused


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """Weights of a small CLIP, made known to open_clip under the name ``evaluate-test``."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    config = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "evaluate-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "evaluate-test.json")
    clip = untrained_clip(model="evaluate-test")
    for parameter in clip.visual.parameters():  # as made, its images all look alike
        parameter.data.mul_(3)
    save_state(clip.state_dict(), tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def test_clip_iqa_of_luma_and_of_colour(folders: Path, command: Callable[..., list[str]], clip_file: Path) -> None:
    score = load_clip_iqa(clip_file, "evaluate-test", prompts=PROMPTS["pyiqa"])
    options = ["--clip-weights", str(clip_file), "--clip-model", "evaluate-test", "--clip-prompts", "pyiqa"]
    values = {}
    for more in ([], ["--clip-colour"]):
        assert main(command(*options, *more)) == 0
        images = pd.read_csv(folders / "out/images.csv")
        assert list(images.columns)[2:] == [*SELECTED, "clip_iqa"]
        values[len(more)] = images[(images.method == "two") & (images.image == "b")]["clip_iqa"].item()
        assert "5 prompt pairs" in (folders / "out/summary.md").read_text()
    luma = torch.from_numpy(read_luma(folders / "two/b.jpg"))[None, None]
    colour = torch.from_numpy(read_visible(folders / "two/b.jpg")).permute(2, 0, 1)[None]
    assert values[0] == pytest.approx(score(luma / 255).item(), abs=1e-6)
    assert values[1] == pytest.approx(score(colour / 255).item(), abs=1e-6)
    assert abs(values[0] - values[1]) > 1e-5


@pytest.fixture
def vifb(reference_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """Folders of the reference images under the names of their pairs, and their table."""
    source = reference_dir / "reference/metrics"
    for method in ("GFF", "GFCE"):
        (tmp_path / method).mkdir()
        for pair in ("carLight", "fight", "labMan"):
            (tmp_path / method / f"{pair}.jpg").symlink_to(source / f"images/fused/{pair}_{method}.jpg")
    for side in ("ir", "vi"):
        (tmp_path / side).mkdir()
        for pair in ("carLight", "fight", "labMan"):
            (tmp_path / side / f"{pair}.jpg").symlink_to(source / f"images/{side}/{pair}.jpg")
    return tmp_path


def test_summary_of_real_images_is_the_mean_of_the_reference_table(reference_dir: Path, vifb: Path) -> None:
    columns = {"ag": "AG", "ei": "EI", "en": "EN", "sd": "SD", "sf": "SF", "mi": "MI", "qabf": "Qabf", "vif": "VIF"}
    columns |= {"ssim": "SSIM", "scd": "SCD", "viff": "VIFF", "sf_uint8": "SF_u8", "ag_forward": "AG_fwd"}
    methods = {method: vifb / method for method in ("GFF", "GFCE")}
    summary = evaluate(methods, list(columns), ir=vifb / "ir", vis=vifb / "vi").summary
    table = pd.read_csv(reference_dir / "reference/metrics/vifb.csv")
    table = table[table.pair.isin(["carLight", "fight", "labMan"])]
    table = table[table.source == "float64 numpy, gray convention"]
    expected = table.groupby(["method", "metric"])["value"].agg(["mean", "count"])
    assert len(summary) == 2 * len(columns)
    for row in summary.itertuples():
        reference = expected.loc[(row.method, columns[row.metric])]
        assert reference["count"] == row.n == 3
        assert row.mean == pytest.approx(reference["mean"], rel=1e-4), (row.method, row.metric)


def test_baselines_are_further_rows(folders: Path, command: Callable[..., list[str]]) -> None:
    assert main(command("--baselines", "--resamples", "10")) == 0
    frame = pd.read_csv(folders / "out" / "images.csv").set_index(["method", "image"])
    changed = [f"{method} ({name})" for method in ("one", "two") for name in ("unsharp", "contrast")]
    assert list(dict.fromkeys(frame.index.get_level_values(0))) == ["one", "two", *changed, "average", "laplacian"]
    ir, vis = (torch.from_numpy(read_luma(folders / file))[None, None] for file in ("ir/a.png", "vi/a.PNG"))
    expected = metrics.compute(["ag", "vif"], (ir.float() + vis.float()) / 510, ir=ir / 255, vis=vis / 255)
    for name, value in expected.items():
        assert frame.loc[("average", "a"), name] == pytest.approx(float(value), rel=1e-6)
    assert frame.loc[("one (unsharp)", "a"), "ag"] > frame.loc[("one", "a"), "ag"]


def test_a_method_with_the_name_of_a_baseline(folders: Path, command: Callable[..., list[str]]) -> None:
    with pytest.raises(ConfigError, match="rename average"):
        main(command("--baselines", "--fused", f"average={folders / 'one'}"))
