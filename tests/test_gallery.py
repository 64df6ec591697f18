"""The gallery and the summary show finished runs, and nothing else."""

import matplotlib.pyplot as plt
import pandas as pd

from classvec_lab import Outputs
from classvec_lab.batch.gallery import collect, write_gallery


def make(folder, name, *, close=True):
    outputs = Outputs(
        name,
        {"dataset": "digits", "model": "tiny-clip", "seed": 0, "group": ""},
        out=str(folder / name),
    )
    outputs.table(pd.DataFrame({"a": [1, 2]}), "numbers")
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    outputs.figure(fig, "line")
    plt.close(fig)
    if close:
        outputs.close()


def test_only_finished_runs_are_collected(tmp_path):
    make(tmp_path, "01_a")
    make(tmp_path, "02_b")
    make(tmp_path, "03_unfinished", close=False)
    (tmp_path / "04_damaged").mkdir()
    (tmp_path / "04_damaged" / "manifest.json").write_text("{")
    found = collect(tmp_path)
    assert found.runs["notebook"].tolist() == ["01_a", "02_b"]
    assert found.runs[["tables", "figures"]].to_numpy().tolist() == [[1, 1], [1, 1]]
    assert found.tables["02_b", "numbers"]["a"].tolist() == [1, 2]
    assert found.index["rows"].tolist() == [2, 2]


def test_a_run_can_be_left_out(tmp_path):
    make(tmp_path, "01_a")
    make(tmp_path, "20_summary")
    found = collect(tmp_path, without="20_summary")
    assert found.runs["notebook"].tolist() == found.index["notebook"].tolist() == ["01_a"]
    assert list(found.tables) == [("01_a", "numbers")]


def test_nothing_to_collect(tmp_path):
    found = collect(tmp_path / "absent")
    assert found.runs.empty
    assert not found.tables


def test_names_stand_in_the_gallery_as_they_are(tmp_path):
    outputs = Outputs("01_a", {}, out=str(tmp_path / "01_a"))
    outputs.record(says=["$5 to $10 and <b> keep `half` of κ_c", "plain"])
    outputs.close()
    page = write_gallery(tmp_path).read_text()
    assert r"- \$5 to \$10 and \<b> keep \`half\` of κ_c" in page
    assert "- plain\n" in page


def test_every_link_of_the_gallery_leads_somewhere(tmp_path):
    import re

    make(tmp_path, "01_a")
    page = write_gallery(tmp_path)
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert len(links) == 3
    assert all((tmp_path / link).is_file() for link in links)
    assert "group" not in page.read_text()
