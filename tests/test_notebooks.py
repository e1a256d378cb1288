"""The notebooks as they are saved: executed, static, and without a result that somebody typed."""

import json
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "notebooks").glob("*.ipynb")}


def cells(name, kind):
    return ["".join(cell["source"]) for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("name", ["Experiments", "Figures"])
def test_no_result_is_typed(name):
    for text in cells(name, "markdown"):
        assert not re.search(r"\d+\.\d+ ?%|[+-]\d+\.\d+ points", text), text


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_saved_executed_and_without_widgets_or_errors(name):
    notebook = NOTEBOOKS[name]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", ())}
    assert not [kind for kind in kinds if "widget" in kind]
    assert "widgets" not in notebook["metadata"]
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert not [output for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_saved_text_holds_a_path_of_the_machine_that_executed_it(name):
    texts = [
        "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
        for cell in NOTEBOOKS[name]["cells"]
        for output in cell.get("outputs", ())
    ]
    assert not [text for text in texts if re.search(r"(?<![\w.:/])/(?!/)[\w.-]+/[\w.-]+|[A-Z]:\\\\", text)]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_picture_stands_in_the_saved_file_for_every_cell_that_shows_one(name):
    for cell in NOTEBOOKS[name]["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and re.search(r"^plt\.show\(\)|^sliders\(", source, re.M):
            assert any("image/png" in output.get("data", {}) for output in cell["outputs"]), source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_are_short_and_import_at_the_top_alone(name):
    code = cells(name, "code")
    for i, source in enumerate(code):
        lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#")]
        assert len(lines) <= 14, source
        assert i < 3 or not re.search(r"^(import|from) ", source, re.M), source


OTHERS = {
    "# your data": """
        points = torch.randn(240, 5)
        train_set, val_set = random_split(TensorDataset(points, (points.sum(1) > 0).float()[:, None]), [200, 40])
        train_loader, val_loader = DataLoader(train_set, 20, shuffle=True), DataLoader(val_set, 40)
        loss_fn = nn.BCEWithLogitsLoss()
    """,
    "# your model": """
        def fresh():
            net = nn.Linear(5, 1)
            return net, torch.optim.AdamW(net.parameters(), lr=0.001)
        model, optimizer = fresh()
    """,
}


def test_the_range_test_runs_through_with_another_net_and_other_data(monkeypatch, capsys):
    monkeypatch.setenv("CLR_STATIC", "1")
    monkeypatch.setattr(plt, "show", plt.close)
    threads, names = torch.get_num_threads(), {}
    try:
        for source in cells("RangeTest", "code"):
            other = [textwrap.dedent(text) for mark, text in OTHERS.items() if source.startswith(mark)]
            exec(compile("".join(other) or source, "a cell", "exec"), names)
    finally:
        torch.set_num_threads(threads)
        plt.close("all")
    assert isinstance(names["model"], torch.nn.Linear) and len(names["learned"]) == 5
