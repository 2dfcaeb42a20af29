"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

import os
import re
import tomllib
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = dict(
    line.split("==") for line in Path("requirements.lock").read_text().splitlines() if line and not line.startswith("#")
)
LOCKED = {canonicalize_name(name): version for name, version in LOCK.items()}
PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
REQUIRED = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
CPU_BUILD = "--extra-index-url https://download.pytorch.org/whl/cpu"


def test_lock_holds_every_requirement_at_an_allowed_version() -> None:
    for requirement in map(Requirement, REQUIRED):
        version = LOCKED.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock"
        assert version in requirement.specifier, f"{requirement} does not allow the locked {version}"


def test_lock_is_portable() -> None:
    for name, version in LOCK.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
        assert "+" not in version, f"{name}: a local version exists on one machine only"
        assert not name.lower().startswith(("nvidia", "triton")), f"{name}: torch asks for it where it is of use"


def test_lock_is_what_is_installed() -> None:
    installed = {canonicalize_name(d.name): d.version.split("+")[0] for d in metadata.distributions()}
    different = {
        name: (version, installed.get(name)) for name, version in LOCKED.items() if installed.get(name) != version
    }
    assert not different, "make env brings the environment to requirements.lock"


def test_conda_environment_installs_the_lock() -> None:
    environment = yaml.safe_load(Path("environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    python = next(entry for entry in conda if entry.startswith("python="))
    assert python.removeprefix("python=") + ".0" in Requirement("python" + PROJECT["requires-python"]).specifier
    assert {entry.split("=")[0] for entry in conda} == {"python", "pip"}


def test_every_file_speaks_of_the_same_pythons() -> None:
    first, last = (int(minor) for minor in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    minors = [f"3.{minor}" for minor in range(first, last)]
    script = Path("tools/env.sh").read_text()
    assert f"(3, {first}) <= sys.version_info[:2] <= (3, {last - 1})" in script
    named = " ".join(f"python{minor}" for minor in reversed(minors))
    assert f"for name in {named} python3;" in script and f"in {' '.join(m[2:] for m in reversed(minors))};" in script
    in_words = f"{', '.join(minors[:-1])} or {minors[-1]}"
    assert f"Python {in_words} is needed" in script and f"Python {in_words} " in Path("README.md").read_text()
    jobs = yaml.safe_load(Path(".github/workflows/test.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [minors[0], minors[-1]]


def test_lock_is_the_tested_stack() -> None:
    # Later versions of these break the pages or the kernels; pyproject.toml says how.
    assert (LOCKED["sphinx-book-theme"], LOCKED["ipykernel"]) == ("1.2.0", "7.2.0")
    assert "ipywidgets" not in LOCKED


def test_binder_installs_the_lock() -> None:
    *options, lock = [line for line in Path("binder/requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert options == [CPU_BUILD]
    assert (Path("binder") / lock.removeprefix("-r ")).resolve() == Path("requirements.lock").resolve()
    python = Path("binder/runtime.txt").read_text().strip().removeprefix("python-")
    assert python + ".0" in Requirement("python" + PROJECT["requires-python"]).specifier
    assert os.access("binder/postBuild", os.X_OK)
    assert Path("binder/postBuild").read_text().splitlines()[-1] == "pip install --no-deps -e ."


def test_colab_installs_what_the_library_needs_at_the_locked_versions() -> None:
    option, *pins = [line for line in Path("binder/colab.txt").read_text().splitlines() if line[0] != "#"]
    assert option == CPU_BUILD
    found = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}
    # Another IPython than its own breaks Colab.
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} - {"ipython"}
    assert found == {name: LOCKED[name] for name in needed}
