"""What the benchmark reads out of a compiled program, and the arithmetic of the tables on many chips."""

import collectives
import pytest
import scaling

PROGRAM = """
  %all-reduce.1 = f32[768,3072]{1,0} all-reduce(%a), replica_groups=[1,8]<=[8], to_apply=%add
  %all-reduce.2 = (f32[8]{0}, bf16[4,2]{1,0}, f32[]) all-reduce(%b, %c, %d), replica_groups={{0,1},{2,3}}
  %scatter = f32[10]{0} reduce-scatter(%e), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %use = f32[768,3072]{1,0} add(%all-reduce.1, %all-reduce.1)
"""


def test_bytes_of_each_kind():
    assert collectives.collectives(PROGRAM) == {
        "all-reduce f32": 4 * (768 * 3072 + 8 + 1),
        "all-reduce bf16": 2 * 8,
        "reduce-scatter f32": 4 * 10 * 4,
    }


def test_an_all_reduce_within_and_between_nodes():
    chip = scaling.Chip("toy", 1.0, 1.0, link_bytes_per_s=100.0, nodes_bytes_per_s=10.0, node=4)
    assert chip.all_reduce_s(400.0, 4) == pytest.approx(2 * 300 / 100)
    assert chip.all_reduce_s(400.0, 8) == pytest.approx(2 * 300 / 100 + 2 * 100 * (1 / 2) / 10)
