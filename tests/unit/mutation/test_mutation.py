"""The judge of the tests: its mutants are other programs, a lane that can see a change kills it, another does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mutation.draw import Mutant, annotations, drawn, mutants, operators
from benchmarks.mutation.rooms import ROOMS, ROOT, files, module_of, statements
from benchmarks.mutation.run import judge

DYNAMICS = "snn2chip/ir/dynamics.py"
SOMA = "snn2chip/ir/soma.py"


def pick(file: str, operator: str, text: str) -> Mutant:
    """The first mutant of an operator on the first line that holds a text."""
    line = next(n for n, row in enumerate((ROOT / file).read_text().splitlines(), 1) if text in row)
    return next(m for m in mutants(file) if m.operator == operator and m.line == line)


def test_every_mutant_is_another_text() -> None:
    """A sample of one file's mutants: no two alike, none the file itself."""
    source = (ROOT / DYNAMICS).read_text()
    chosen = list(mutants(DYNAMICS))[::25]
    texts = [mutant.source() for mutant in chosen]
    assert len(chosen) > 10
    assert source not in texts
    assert len(set(texts)) == len(texts)


def test_annotations_are_left_alone() -> None:
    """`int | None` of an annotation is never evaluated; the same text in code is."""
    source = "from __future__ import annotations\ndef f(x: int | None) -> int | None:\n    return x | 1\n"
    spans = annotations(source)
    inside = [place for place in ((2, 13), (2, 30), (3, 13)) if any(a <= place < b for a, b in spans)]
    assert inside == [(2, 13), (2, 30)]


def test_identity_is_no_comparison_to_mutate_to() -> None:
    """`==` never becomes `is`, `is` may become `is not`."""
    names = operators()
    assert not [name for name in names if name.startswith("ReplaceComparisonOperator_Eq_Is")]
    assert {"ReplaceComparisonOperator_Is_IsNot", "NumberReplacer"} <= {*names}


def test_a_draw_repeats_and_holds_all_of_a_whole_room() -> None:
    """The same seed, the same sample; after it every mutant of the schedule, once."""
    first, second = drawn(20, 3, rooms=("schedule",)), drawn(20, 3, rooms=("schedule",))
    assert first == second
    assert first[:20] != drawn(20, 4, rooms=("schedule",))[:20]
    every = [mutant.key for file in files("schedule") for mutant in mutants(file)]
    assert sorted(mutant.key for mutant in first) == sorted(every)


def test_a_statement_knows_its_lines() -> None:
    """A call over two lines is one statement; a default runs at import, a body does not."""
    found = statements("def f(a=1):\n    return g(\n        a)\nB = 2\n")
    assert [found[3], found[4]] == [(2, 3, False), (4, 4, True)]
    assert found[1][2]


def test_rooms_are_files_that_import() -> None:
    """Every room has files, and a file's import name is its path."""
    assert all(files(room) for room in ROOMS)
    assert module_of("backends/snn2chip_backends/torch/engine.py") == "snn2chip_backends.torch.engine"


@pytest.mark.slow
def test_a_lane_that_sees_a_change_kills_it(tmp_path: Path) -> None:
    """A comparison turned round and a range made wider are seen by the soma's tests, not by an unrelated file's."""
    turned = pick(SOMA, "ReplaceComparisonOperator_Gt_Lt", "inferred and rows > 1")
    ranged = pick(SOMA, "NumberReplacer", '"gain_shift": (0, 15)')
    near, far = ["tests/unit/ir/test_ir_soma.py"], ["tests/unit/mapping/test_targets.py"]
    killed = judge([(turned, near), (ranged, near)], tmp_path, jobs=1)
    assert [killed[mutant.key][0] for mutant in (turned, ranged)] == ["killed", "killed"]
    lived = judge([(turned, far), (ranged, [])], tmp_path, jobs=1)
    assert [lived[mutant.key][0] for mutant in (turned, ranged)] == ["survived", "no test"]
