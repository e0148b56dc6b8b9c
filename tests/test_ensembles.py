"""Ensembles: which trained models a score may look at."""

import subprocess
import sys

from attriflow.ensembles import independent


def test_members_of_a_smaller_ensemble_are_the_first_of_a_larger():
    assert independent.members(count=5)[:2] == independent.members(count=2)


def test_members_on_parts_of_the_data_have_subsets_of_their_own():
    members = independent.members(count=3, fraction=0.5)
    masks = [member.run.mask(40, 0) for member in members]
    assert [mask.sum() for mask in masks] == [20, 20, 20]
    assert len({mask.tobytes() for mask in masks}) == 3
    assert len({member.name for member in members} | {m.name for m in independent.members(count=3)}) == 6


def test_a_plan_can_be_made_without_torch():
    code = (
        "import sys; sys.path.insert(0, 'src'); from attriflow.study import plan_of; plan_of('.'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
