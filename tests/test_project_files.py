"""What is not code says what is: citation, forms, the workflow, the hooks before a commit, requirements."""

import ast
import configparser
import re
import sys
from collections.abc import Iterator
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


MODULES = {"opencv_python": "cv2", "pillow": "PIL", "pyyaml": "yaml", "open_clip_torch": "open_clip"}
"""Requirements whose modules have other names."""


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """Name what the import of a module imports; functions, `try` and `if` are for what may be absent."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_what_is_imported_is_installed_without_extras() -> None:
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].split()
    required = [re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines]
    packages = ("student", "fusion_env", "agents", "experiments")
    known = {MODULES.get(name, name) for name in required} | set(packages) | sys.stdlib_module_names
    known.add("huggingface_hub")  # a requirement of open_clip_torch, and used with it only
    on_demand = {("agents/tqc.py", "sb3_contrib")}  # by the name of the algorithm
    absent = {
        (path.relative_to(CHECKOUT).as_posix(), name)
        for package in packages
        for path in (CHECKOUT / package).rglob("*.py")
        for name in imported_at_once(ast.parse(path.read_text(encoding="utf-8")))
        if name not in known
    }
    assert absent == on_demand
