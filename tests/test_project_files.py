"""What is not code says what is: citation, forms, the workflow, the hooks before a commit."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

import fusion_env

CHECKOUT = Path(__file__).resolve().parent.parent
FORMS = sorted(CHECKOUT.glob(".github/ISSUE_TEMPLATE/*.yml"))


def read(name: str) -> dict:
    return yaml.safe_load((CHECKOUT / name).read_text())


def test_the_citation_is_of_this_version() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == fusion_env.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "authors", "message"} <= citation.keys()
    assert "arXiv:2509.02424" in str(citation["references"])


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_asks_for_something(form: Path) -> None:
    content = read(str(form.relative_to(CHECKOUT)))
    assert {"name", "description", "body"} <= content.keys()
    asked = [part for part in content["body"] if part["type"] != "markdown"]
    assert any(part["validations"]["required"] for part in asked if "validations" in part)
    assert len({part["id"] for part in asked}) == len(asked)
    for path in re.findall(r"`((?:docs/)?[\w/-]+\.md)`", form.read_text()):
        assert (CHECKOUT / path).exists(), path


def test_the_command_for_versions(capsys: pytest.CaptureFixture[str]) -> None:
    exec(re.search(r'python -c "(.*)"', (CHECKOUT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())[1])
    told = capsys.readouterr().out
    assert fusion_env.__version__ in told
    assert "PyTorch" in told


def test_the_workflow_is_the_script() -> None:
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    oldest = re.search(r"python_requires = >=(\S+)", (CHECKOUT / "setup.cfg").read_text())[1]
    assert oldest in job["strategy"]["matrix"]["python"]


def test_the_hooks_are_the_checks_of_the_lint_test() -> None:
    entries = [hook["entry"] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert entries == ["ruff check --fix", "ruff format", "mypy"]


def test_hints_work_from_a_checkout() -> None:
    """The package is on no index, so that messages name the checkout, and extras that there are."""
    extras = setuptools_options()["options.extras_require"]
    for path in (
        file
        for package in ("fusion_env", "student", "agents", "experiments")
        for file in CHECKOUT.glob(f"{package}/**/*.py")
    ):
        text = path.read_text(encoding="utf-8")
        assert "fusion-env[" not in text, path
        assert set(re.findall(r"""pip install -e ["'`]\.\[(\w+)""", text)) <= set(extras), path


def setuptools_options() -> configparser.ConfigParser:
    options = configparser.ConfigParser()
    options.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    return options
