"""The runner, on tiny notebooks that each stand for one behaviour."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from paperlib.__main__ import main
from paperlib.study import reproduce
from paperlib.study.reproduce import find_notebooks, parameters_for


def write_notebook(folder, name, *cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three notebooks: one works, one fails, one prints its parameters."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder, "00_works", 'tier = "embedded"', "print('fine')")
    write_notebook(folder, "01_fails", 'tier = "embedded"', "1 / 0", "print('unreached')")
    write_notebook(folder, "02_prints", 'tier = "embedded"\nk = 5\nname = ""', "print(k, name)")
    monkeypatch.setattr(reproduce, "NOTEBOOKS", folder)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setenv("PAPERLIB_FIGURES", "")  # the runner sets it; pytest puts it back
    return tmp_path


def test_a_failing_notebook_does_not_stop_the_others(project, capsys):
    assert main(["reproduce", "--jobs", "2", "-p", "k", "7", "-p", "name", "resnet56"]) == 1
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "01_fails: FAILED, cell [3]: ZeroDivisionError: division by zero" in shown
    assert "00_works: ok" in shown and "02_prints: ok" in shown and "3/3" in shown
    build = project / "build" / "embedded"
    names = {path.name for path in build.iterdir()}
    assert names == {"00_works.ipynb", "01_fails.failed.ipynb", "02_prints.ipynb"}
    executed = nbformat.read(build / "02_prints.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "7 resnet56\n"


def test_selected_notebooks_run_alone(project):
    assert main(["reproduce", "00", "--jobs", "1"]) == 0
    assert [path.name for path in (project / "build" / "embedded").glob("*")] == ["00_works.ipynb"]


def test_bad_input_is_named(project, capsys):
    assert main(["reproduce", "-p", "kk", "7"]) == 2
    assert "unknown parameters ['kk']; choose from k, name, tier" in capsys.readouterr().err
    assert main(["reproduce", "07"]) == 2
    assert "no notebook starts with '07'; choose from 00_works, " in capsys.readouterr().err
    assert main(["reproduce", "--jobs", "0"]) == 2
    with pytest.raises(SystemExit):
        main(["reproduce", "--tier", "moon"])
    assert not (project / "build").exists()


def test_the_scorecard_runs_last(project, capsys):
    source = "import time; time.sleep(2)", "open('done', 'w').close()"
    write_notebook(project / "notebooks", "01_fails", "tier = ''", *source)
    write_notebook(project / "notebooks", "09_scorecard", "tier = ''", "open('done').close()")
    assert main(["reproduce", "01", "09", "--jobs", "2"]) == 0


def test_parameters_go_to_the_notebooks_that_have_them(project):
    work = parameters_for(find_notebooks(), {"tier": "cifar10", "k": 3})
    assert {path.stem: given for path, given in work.items()} == {
        "00_works": {"tier": "cifar10"},
        "01_fails": {"tier": "cifar10"},
        "02_prints": {"tier": "cifar10", "k": 3},
    }


def test_a_tier_brings_its_own_parameters(project):
    """ImageNet's k is 50, unless the user says otherwise."""
    assert main(["reproduce", "02", "--tier", "imagenet", "--jobs", "1"]) == 0
    executed = project / "build" / "imagenet" / "02_prints.ipynb"
    assert nbformat.read(executed, as_version=4).cells[-1].outputs[0].text == "50 \n"
    assert main(["reproduce", "02", "--tier", "imagenet", "--jobs", "1", "-p", "k", "7"]) == 0
    assert nbformat.read(executed, as_version=4).cells[-1].outputs[0].text == "7 \n"


def test_on_imagenet_folders_may_be_relative_and_cifar_notebooks_stay_out(project, monkeypatch):
    monkeypatch.chdir(project)
    write_notebook(
        project / "notebooks", "01_fails", "data = ''\nimages = ''", "print(data, images)"
    )
    write_notebook(project / "notebooks", "07_cifar", "data = ''", "1 / 0")
    given = ["-p", "data", "2012", "-p", "images", "imagefolder:some/where"]
    assert main(["reproduce", "--tier", "imagenet", "--jobs", "1", *given]) == 0
    executed = nbformat.read(project / "build" / "imagenet" / "01_fails.ipynb", as_version=4)
    assert (
        executed.cells[-1].outputs[0].text == f"{project}/2012 imagefolder:{project}/some/where\n"
    )


def test_interruption_leaves_finished_notebooks_whole(project):
    """SIGINT to the whole group, as Ctrl-C sends it, while the second notebook sleeps."""
    write_notebook(project / "notebooks", "01_fails", "tier = ''", "import time; time.sleep(300)")
    script = project / "run.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom paperlib.__main__ import main\n"
        "from paperlib.study import reproduce\n"
        f"reproduce.ROOT = Path({str(project)!r})\n"
        "reproduce.NOTEBOOKS = reproduce.ROOT / 'notebooks'\n"
        "if __name__ == '__main__':\n    sys.exit(main(['reproduce', '00', '01', '--jobs', '1']))\n"
    )
    run = subprocess.Popen([sys.executable, script], start_new_session=True, stderr=subprocess.PIPE)
    build = project / "build" / "embedded"
    deadline = time.monotonic() + 60
    while not (build / ".01_fails.partial.ipynb").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and b"finished notebooks are whole" in errors
    assert [path.name for path in build.iterdir()] == ["00_works.ipynb"]
    nbformat.validate(nbformat.read(build / "00_works.ipynb", as_version=4))
