"""The short form of the attacks; `make attack` runs the long one."""

import pytest

from tests.attack import kills, targets


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damaged_files_are_refused_or_unchanged(name, tmp_path):
    found = targets.TARGETS[name](tmp_path, rounds=300, seed=1)
    assert set(found) <= {"refused", "unchanged"}, found
    assert found["refused"] > 200


def test_jobs_killed_at_random_moments_end_the_same(tmp_path):
    for name, job in kills.jobs(tmp_path).items():
        assert kills.killed(job, times=2, seed=1).endswith("2 ended with the same bytes"), name
