"""Progress bars: shown while they run, gone afterwards, in a notebook too."""

from contextlib import suppress

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from classvec_lab.progress import progress_bar

WIDGET = "application/vnd.jupyter.widget-view+json"


def outputs_of(*cells):
    """Outputs of each cell of a notebook run by nbclient, which follows updates of outputs as JupyterLab does."""
    sources = ["import time\nfrom classvec_lab.progress import progress_bar", *cells]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    with suppress(CellExecutionError):
        client.execute()
    return [cell.outputs for cell in notebook.cells[1:]]


def test_in_a_notebook_a_bar_leaves_no_widget_behind():
    long, bar, delayed, quick, silent, failed = outputs_of(
        "for _ in progress_bar(range(3), desc='a'): time.sleep(0.12)",
        "with progress_bar(total=2, desc='b') as bar:\n    for _ in range(2): time.sleep(0.12); bar.update()",
        "for _ in progress_bar(range(4), desc='c', delay=0.2): time.sleep(0.12)",
        "for _ in progress_bar(range(3), desc='d', delay=30): time.sleep(0.12)",
        "for _ in progress_bar(range(9), disable=True): pass",
        "for k in progress_bar(range(3), desc='e'): time.sleep(0.12); 1 / (1 - k)",
    )
    for shown in (long, bar, delayed):
        assert [output.data for output in shown] == [{"text/plain": ""}]
    assert quick == silent == []
    assert [output.output_type for output in failed] == ["display_data", "error"]
    assert WIDGET in failed[0].data  # where it stopped is worth seeing


def test_in_a_terminal_a_bar_is_text_on_stderr(capsys):
    assert list(progress_bar(range(3), desc="count", mininterval=0)) == [0, 1, 2]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "count" in printed.err
    assert printed.err.rsplit("\r", 2)[1].strip() == ""  # wiped


def test_bars_of_a_batch_run_hold_one_line_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLASSVEC_PROGRESS", str(tmp_path / "bar"))
    read = (tmp_path / "bar").read_text
    with progress_bar(total=3, desc="outer", mininterval=0) as bar:
        bar.update(2)
        assert read().startswith("outer: 2 of 3, ")
        seen = [read() for _ in progress_bar("ab", desc="inner", mininterval=0)]
        assert [text.split(",")[0] for text in seen] == ["inner: 0 of 2", "inner: 1 of 2"]
        assert read() == ""
    (tmp_path / "bar").unlink()
    monkeypatch.setenv("CLASSVEC_PROGRESS", str(tmp_path / "gone" / "bar"))
    assert list(progress_bar("ab")) == ["a", "b"]  # nobody follows any more
    assert capsys.readouterr() == ("", "")


def test_options_are_those_of_tqdm():
    with pytest.raises(KeyError, match="nonsense"):
        progress_bar([], nonsense=1)
