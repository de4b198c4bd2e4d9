"""The types that both checkers infer for the public interface are pinned by the files beside this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"],
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_inferred_types_are_those_pinned(checker: str) -> None:
    files = [
        str(HERE / name)
        for name in ("raising.py", "outcomes.py", "blocking.py", "stores.py", "approving.py", "asking.py")
    ]
    checked = subprocess.run(
        [*CHECKERS[checker], *files], cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_use_is_found(checker: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from flowpersist import PersistenceHub\n"
        "async def use(hub: PersistenceHub) -> int:\n"
        "    return (await hub.suspend(1)).unwrap().key.nothing\n"
    )
    checked = subprocess.run(
        [*CHECKERS[checker], str(wrong)], cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    assert checked.returncode != 0
    assert "nothing" in checked.stdout
