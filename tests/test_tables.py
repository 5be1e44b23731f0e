"""The tables and claims that nbval's run of the notebooks wrote are the committed ones.

`make test` runs this after the notebooks, with both in one `PAPERLIB_FIGURES`.
"""

import json

import pandas as pd
import pytest

from reproduction.paths import ROOT, figures_folder

COMMITTED = ROOT / "figures"
TIMED = {"08_head_time.csv"}  # seconds differ from run to run
TABLES = sorted(path.name for path in COMMITTED.glob("*.csv") if path.name not in TIMED)
CLAIMS = sorted(path.name for path in (COMMITTED / "claims").glob("*.json"))


@pytest.mark.parametrize("name", TABLES)
def test_table(name):
    fresh = figures_folder() / name
    if not fresh.exists():
        pytest.skip("its notebook has not run in this session")
    pd.testing.assert_frame_equal(pd.read_csv(fresh), pd.read_csv(COMMITTED / name), rtol=1e-4)


@pytest.mark.parametrize("name", CLAIMS)
def test_claim(name):
    fresh, committed = (
        json.loads((folder / "claims" / name).read_text())
        for folder in (figures_folder(), COMMITTED)
    )
    for key, value in committed.items():
        exact = isinstance(value, str)
        assert fresh[key] == (value if exact else pytest.approx(value, rel=1e-3, abs=1e-3)), key
