"""Finished runs: their masks, and how those that do not count are named.

Which of them count: test_tables; what their networks make of other pictures: test_pets.
"""

import numpy as np
import pytest

from bipartition.finished import first_masks, name_stale_runs


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, "
                                     b"'shape': (2, 9, 9), }" + b" " * 57 + b"\n123"])
def test_a_damaged_file_of_masks_is_named_with_the_way_out(tmp_path, content):
    (tmp_path / "masks.npy").write_bytes(content)
    with pytest.raises(ValueError, match="masks.npy holds no masks, or is damaged; delete it, and `make train` makes the run"):
        first_masks({3: tmp_path})


def test_a_run_that_has_lost_its_masks_is_passed_over(tmp_path):
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "masks.npy", np.zeros((2, 4, 4), np.uint8))
    assert first_masks({0: tmp_path / "one"}) == (None, None)
    seed, masks = first_masks({0: tmp_path / "one", 1: tmp_path})
    assert seed == 1 and masks.shape == (2, 4, 4)


def test_a_run_that_is_left_out_is_named_with_the_command_that_makes_it_anew(capsys):
    name_stale_runs(["casm/seed3", "classifier/seed0"], "my dir/mine.yaml")
    casm, warm_up = capsys.readouterr().out.splitlines()
    assert "casm/seed3" in casm and "`make train PROFILE='my dir/mine.yaml' ROWS=casm SEEDS=3` makes it anew" in casm
    assert "classifier/seed0" in warm_up and "`make train PROFILE='my dir/mine.yaml'` makes it anew" in warm_up
