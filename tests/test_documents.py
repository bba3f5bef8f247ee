"""What documents, comments and docstrings refer to is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRACKED = [
    ROOT / name for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
]
READ = [path for path in TRACKED if path.suffix in (".py", ".toml", ".md", ".j2") and "generated" not in path.parts]
EMITTED = {"coverage.md"}  # written by a compile


@pytest.mark.skipif(not TRACKED, reason="no git checkout: what belongs to the project is not known")
def test_every_document_that_is_cited_exists():
    names = {path.name for path in TRACKED}
    cited = {(path, name) for path in READ for name in re.findall(r"[\w/]*\w+\.md\b", path.read_text())}
    missing = {(str(path.relative_to(ROOT)), name) for path, name in cited if Path(name).name not in names | EMITTED}
    assert sorted(missing) == []


def test_links_between_documents_lead_somewhere():
    broken = [
        (str(path.relative_to(ROOT)), target)
        for path in READ
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text())
        if not target.startswith(("http:", "https:")) and not (path.parent / target).exists()
    ]
    assert broken == []
