"""What a release promises about itself: one version, a changelog in order, a citation, metadata, typed packages."""

from __future__ import annotations

import re
import sys
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from blocks import ROOT
from typer.testing import CliRunner

import snn2chip
from snn2chip.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<day>\d{4}-\d{2}-\d{2}))?$")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)((a|b|rc)\d+)?")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wrong_in_changelog(text: str, version: str) -> list[str]:
    """What breaks the discipline: Unreleased or the version on top, then released versions, newest first, with days."""
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    found = [HEADING.match(line) for line in headings]
    wrong = [f"not [version] - day: {line}" for line, match in zip(headings, found, strict=True) if not match]
    names = [match["name"] for match in found if match]
    if not names or names[0] not in ("Unreleased", version):
        wrong.append(f"on top stands {names[:1]}, not Unreleased or {version}")
    released = [match for match in found if match and match["name"] != "Unreleased"]
    wrong += [f"{m['name']}: no day" for m in released if not m["day"] or date.fromisoformat(m["day"]) > date.today()]
    wrong += [f"{m['name']}: no version" for m in released if not SEMANTIC.fullmatch(m["name"])]
    numbers = [tuple(int(n) for n in re.findall(r"\d+", m["name"])) for m in released]
    if numbers != sorted(set(numbers), reverse=True):
        wrong.append("versions are not newest first")
    if "Unreleased" in names[1:]:
        wrong.append("Unreleased is not on top")
    wrong += [f"unknown kind {kind}" for kind in re.findall(r"^### (.+)$", text, re.M) if kind not in KINDS]
    return wrong


def test_one_version() -> None:
    """It stands in the package alone; citation and installed metadata say the same."""
    about = project()
    assert "version" in about["project"]["dynamic"]
    assert "version" not in about["project"]
    assert about["tool"]["hatch"]["version"]["path"] == "snn2chip/__init__.py"
    assert SEMANTIC.fullmatch(snn2chip.__version__)
    assert f"\nversion: {snn2chip.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert metadata.version("snn2chip") == snn2chip.__version__


def test_the_changelog_is_in_order() -> None:
    assert not wrong_in_changelog((ROOT / "CHANGELOG.md").read_text(), snn2chip.__version__)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("## [1.1.0] - 2020-01-02\n", "on top stands"),
        ("## [Unreleased]\n## [1.0.0]\n", "no day"),
        ("## [Unreleased]\n## [1.0.0] - 2020-01-02\n## [1.1.0] - 2020-02-02\n", "newest first"),
        ("## [1.0.0] - 2020-01-02\n## [Unreleased]\n", "not on top"),
        ("## [Unreleased]\n### Improved\n", "unknown kind"),
        ("## Unreleased\n", "not [version]"),
    ],
)
def test_a_changelog_out_of_order_is_seen(text: str, wrong: str) -> None:
    assert any(wrong in line for line in wrong_in_changelog(text, "1.0.0"))


def test_the_citation_is_valid() -> None:
    """The keys that the Citation File Format 1.2.0 asks for, and the kinds of their values."""
    yaml = pytest.importorskip("yaml", reason="reading CITATION.cff needs PyYAML, which the extras bring")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    known = {"cff-version", "title", "message", "type", "authors", "abstract", "keywords", "license", "version"}
    assert {"cff-version", "title", "message", "authors"} <= found.keys() <= known | {"date-released", "doi", "url"}
    assert found["cff-version"] == "1.2.0"
    assert found["type"] in ("software", "dataset")
    assert found["license"] == project()["project"]["license"] == "Apache-2.0"
    assert found["authors"]
    assert all(isinstance(author, dict) and author.keys() & {"name", "family-names"} for author in found["authors"])
    assert all(isinstance(word, str) for word in found["keywords"])
    assert len(set(found["keywords"])) == len(found["keywords"])


def test_the_metadata_is_complete() -> None:
    about = project()["project"]
    assert about["readme"] == "README.md"
    assert about["license-files"] == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert about["requires-python"] == ">=3.10"
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)} <= set(about["classifiers"])
    assert "Typing :: Typed" in about["classifiers"]
    assert len(about["description"]) < 200
    assert about["authors"]
    assert about["keywords"]
    extras = about["optional-dependencies"]
    everything = set(re.findall(r"[\w-]+", extras["all"][0].partition("[")[2]))
    assert extras.keys() - everything <= {"all", "ray"}  # Ray is large; everything else is in `all`


def test_packages_are_typed() -> None:
    for package in project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_version_says_where_it_is_from() -> None:
    said = CliRunner().invoke(app, ["--version"]).output
    python = ".".join(str(part) for part in sys.version_info[:3])
    assert said.startswith(f"snn2chip {snn2chip.__version__} (")
    assert f"Python {python}" in said
    for name in ("torch", "numpy"):
        assert f"{name} {metadata.version(name)}" in said
    git = ROOT / ".git"
    if (git / "HEAD").is_file() and Path(snn2chip.__file__).is_relative_to(ROOT):
        assert re.search(r"commit [0-9a-f]{12}", said)
