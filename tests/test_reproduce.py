"""The runner, on tiny notebooks that each stand for one behaviour."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import papermill
import pytest

from paperlib.__main__ import main
from reproduction import runner
from reproduction.claims import CLAIMS, record_claim
from reproduction.parameters import parameters_for
from reproduction.runner import find_notebooks


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
    monkeypatch.setattr(runner, "NOTEBOOKS", folder)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
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


@pytest.mark.parametrize("failures", [1, 2])
def test_a_kernel_that_does_not_start_is_tried_once_more(failures, project, monkeypatch):
    (source,), tries = find_notebooks(["00"]), []
    folder = project / "build"
    folder.mkdir()
    execute = papermill.execute_notebook

    def sometimes(given, partial, *arguments, **settings):
        tries.append(given)
        if len(tries) <= failures:
            partial.write_text(given.read_text())
            raise RuntimeError("Kernel didn't respond in 60 seconds")
        return execute(given, partial, *arguments, **settings)

    monkeypatch.setattr(papermill, "execute_notebook", sometimes)
    outcome = runner.run_notebook(source, folder, {})
    assert len(tries) == 2
    assert outcome.error == "" if failures == 1 else "kernel does not start" in outcome.error
    assert outcome.path.exists()


def test_the_scorecard_runs_last(project, capsys):
    source = "import time; time.sleep(2)", "open('done', 'w').close()"
    write_notebook(project / "notebooks", "01_fails", "tier = ''", *source)
    write_notebook(project / "notebooks", "09_scorecard", "tier = ''", "open('done').close()")
    assert main(["reproduce", "01", "09", "--jobs", "2"]) == 0


def test_parameters_go_to_the_notebooks_that_have_them(project):
    work = parameters_for(find_notebooks(), {"tier": "cifar10", "k": "3"})
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
    parameters = "data = ''\nimages = ''\nbank_file = ''"
    body = "print(data, images, bank_file)"
    write_notebook(project / "notebooks", "01_fails", parameters, body)
    write_notebook(project / "notebooks", "07_cifar", "data = ''", "1 / 0")
    given = ["-p", "data", "2012", "-p", "images", "imagefolder:some/where"]
    given += ["-p", "bank_file", "cifar10"]  # the name of a data set, not a folder
    assert main(["reproduce", "--tier", "imagenet", "--jobs", "1", *given]) == 0
    executed = nbformat.read(project / "build" / "imagenet" / "01_fails.ipynb", as_version=4)
    expected = f"{project}/2012 imagefolder:{project}/some/where cifar10\n"
    assert executed.cells[-1].outputs[0].text == expected


def start_runner(project):
    """The runner of the project's notebooks 00 and 01, one at a time, once 01 is running."""
    script = project / "run.py"
    script.write_text(
        "import signal, sys\nfrom pathlib import Path\nfrom paperlib.__main__ import main\n"
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from reproduction import runner\n"
        f"runner.ROOT = Path({str(project)!r})\n"
        "runner.NOTEBOOKS = runner.ROOT / 'notebooks'\n"
        "if __name__ == '__main__':\n    sys.exit(main(['reproduce', '00', '01', '--jobs', '1']))\n"
    )
    run = subprocess.Popen([sys.executable, script], start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (project / "build" / "embedded" / ".01_fails.partial.ipynb").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return run


@pytest.mark.parametrize("interrupt", [os.killpg, os.kill], ids=["whole group", "runner alone"])
def test_interruption_leaves_finished_notebooks_whole(project, interrupt):
    """SIGINT while the second notebook sleeps: as Ctrl-C sends it, and to the runner alone."""
    write_notebook(project / "notebooks", "01_fails", "tier = ''", "import time; time.sleep(300)")
    run = start_runner(project)
    interrupt(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and b"finished notebooks are whole" in errors
    assert b"Traceback" not in errors and b"caught in kernel" not in errors
    build = project / "build" / "embedded"
    assert [path.name for path in build.iterdir()] == ["00_works.ipynb"]
    nbformat.validate(nbformat.read(build / "00_works.ipynb", as_version=4))


def test_a_dead_kernel_is_reported_with_its_cell(project, capsys):
    """As if the system had killed it for want of memory."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    write_notebook(project / "notebooks", "01_fails", "tier = ''", "print('fine')", kill)
    assert main(["reproduce", "01"]) == 1
    shown = capsys.readouterr()
    assert "01_fails: FAILED, cell [4]: the kernel died (killed, or out of memory)" in shown.out
    partial = nbformat.read(project / "build" / "embedded" / "01_fails.failed.ipynb", as_version=4)
    assert "fine" in str(partial.cells[-2].outputs)


def test_only_verdicts_of_this_run_are_printed(project, capsys):
    """A record that an earlier run left is not shown, and that of the notebook that ran is new."""
    figures = project / "build" / "embedded" / "figures"
    key = "baseline-accuracy"
    record = "from reproduction.claims import record_claim\nfrom pathlib import Path\n"
    record += f"_ = record_claim(Path({str(figures)!r}), {key!r}, 91.7, 90.1, 93.2, reason='none')"
    name = CLAIMS[key].notebook
    write_notebook(project / "notebooks", name, "tier = ''", record)
    record_claim(figures, key, 1.0, 0.5, 1.5, reason="none")
    record_claim(figures, "cheaper-head", 8.0, 7.0, 9.0, reason="none")
    assert main(["reproduce", name]) == 0
    shown = capsys.readouterr().out
    assert "91.7 [90.1, 93.2]" in shown and "1.0 [0.5" not in shown and "costs less" not in shown
