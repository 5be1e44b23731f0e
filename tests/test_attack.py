"""The short form of the attacks; `make attack` runs the long one."""

import json

import pytest

from tests.attack import __main__ as attack
from tests.attack import kills, targets


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damaged_files_are_refused_or_unchanged(name, tmp_path):
    found = targets.TARGETS[name](tmp_path, rounds=300, seed=1)
    assert set(found) <= {"refused", "unchanged"}, found
    assert found["refused"] > 200


def test_jobs_killed_at_random_moments_end_the_same(tmp_path):
    for name, job in kills.jobs(tmp_path).items():
        times = 1 if name == "reproduce" else 2
        found = kills.killed(job, times, seed=1)
        assert found["kills"] == found["same"] == times, (name, found)


def test_the_page_shows_the_results_of_the_long_form():
    """And these are what must be: nothing wrong, nothing foreign, nothing lost."""
    rows = json.loads(attack.RESULTS.read_text())
    assert attack.table(rows) in attack.PAGE.read_text()
    for name, row in rows.items():
        found = row["found"]
        if name.startswith("damaged"):
            assert found.keys() <= {"copies", "refused", "unchanged"}, name
            assert found["copies"] == found["refused"] + found["unchanged"] >= 10_000
        else:
            assert found["same"] == found["kills"] > 0, name
