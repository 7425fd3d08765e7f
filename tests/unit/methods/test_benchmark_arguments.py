"""What `python -m benchmarks` refuses before anything is measured."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize("threads", ["0", "-1"])
def test_no_threads_are_a_usage_error(threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--quick", "--only", "engine", "--threads", threads])
    assert ended.value.code == 2
    assert f"--threads {threads}: at least 1" in capsys.readouterr().err
