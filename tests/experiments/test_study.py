"""A study's pictures and sentences: which runs they are made from, and what they say of invented ones."""

import matplotlib
import pandas as pd
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from clr import experiments, paths, results
from clr.experiments import pictures, sentences
from clr.experiments.study import Study

NOISE = (-0.001, 0.0, 0.001)


def save(experiment, arm, seed, curve, scale="full", dataset="cifar10"):
    config = experiments.configs(experiment, seed + 1, scale)[arm, seed]
    rows = [
        {"iteration": k, "lr": config.policy(k - 1), "train_loss": 1.0, "test_loss": 1.0, "test_accuracy": accuracy}
        for k, accuracy in curve.items()
    ]
    root = paths.home() / ("results" if scale == "full" else f"runs/{dataset}-{scale}/results")
    record = {"config": config.to_dict(), "data": {"name": dataset}, "provenance": {}}
    results.save(root / dataset / experiment / arm, seed, rows, record)


@pytest.fixture
def headline():
    """Cycles reach the long schedule's 75% at 8,000 updates; the line ends two points above them."""
    for seed, noise in enumerate(NOISE):
        save("headline", "fixed", seed, {32_000: 0.7 + noise, 70_000: 0.75 + noise})
        cycles = {4000: 0.6, 8000: 0.76, 32_000: 0.77, 35_000: 0.7}
        save("headline", "triangular", seed, {k: accuracy + noise for k, accuracy in cycles.items()})
        line = {4000: 0.5, 8000: 0.76, 32_000: 0.79 + noise}
        save("headline-controls", "linear-32k", seed, {k: accuracy + noise for k, accuracy in line.items()})
    yield Study()
    plt.close("all")


def test_a_study_reads_one_scale_and_data_set_and_marks_its_runs(headline):
    save("headline", "fixed", 0, {70: 0.1}, scale="tiny")
    save("headline", "fixed", 0, {70_000: 0.1}, dataset="cifar10-jpeg")
    runs = headline.runs("headline")
    assert set(runs["scale"]) == {"full"} and set(runs["dataset"]) == {"cifar10"}
    assert Study("tiny").runs("headline")["test_accuracy"].tolist() == [0.1]
    assert Study(dataset="cifar10-jpeg").runs("headline")["test_accuracy"].tolist() == [0.1]


def test_seeds_and_arms_decide_what_is_shown(headline):
    assert set(Study(seeds=2).runs("headline")["seed"]) == {0, 1}
    assert set(Study(arms=["fixed"]).runs("headline", "headline-controls")["arm"]) == {"fixed"}


def test_pictures_and_answers_follow_the_seeds_and_arms(headline):
    assert "(+1.8 to +2.2, n = 3)" in sentences.conclusions(headline)
    few = Study(seeds=2)
    assert "n = 2)" in sentences.conclusions(few) and "n = 3" not in sentences.conclusions(few)
    assert "n = 2" in pictures.differences(few).axes[0].get_title() + str(texts(pictures.differences(few)))
    for seed in range(3):
        for arm in ("fixed", "decay"):
            save("paper-table-1", arm, seed, {25_000: 0.7, 70_000: 0.8})
    assert "n = 2" in texts(pictures.paper(few)) and "n = 3" not in texts(pictures.paper(few))
    assert len(pictures.paper(Study(arms=["fixed"])).axes[0].get_yticks()) == 1


def texts(figure):
    return [text.get_text().strip() for text in figure.axes[0].texts]


def test_a_comparison_without_a_partner_is_no_picture(save_only_the_headline, capsys):
    for name in ("differences", "cycle-ends"):
        assert pictures.PICTURES[name](Study()) is None
        assert "`python -m clr run headline-controls`" in capsys.readouterr().out
    save("controls", "fixed-25k", 0, {25_000: 0.7})
    assert pictures.control_differences(Study()) is None


@pytest.fixture
def save_only_the_headline():
    save("headline", "fixed", 0, {32_000: 0.7, 70_000: 0.75})
    save("headline", "triangular", 0, {32_000: 0.77, 35_000: 0.7})


def test_synthetic_images_at_full_length_are_read_where_they_are_kept():
    assert Study(dataset="synthetic").root == experiments.results_folder("synthetic", "full")


def test_arms_that_no_experiment_has_are_refused():
    with pytest.raises(ValueError, match=r"arms must be the catalogue's, such as 'fixed', got 'fixd'"):
        Study(arms=["fixed"] * 100 + ["fixd"])
    for arms in ("fixed", 5):
        with pytest.raises(TypeError, match=rf"arms must be a list, such as \['fixed'\], got {arms!r}"):
            Study(arms=arms)


def test_a_home_that_is_nowhere_is_no_empty_study(tmp_path, monkeypatch):
    monkeypatch.setenv("CLR_HOME", str(tmp_path / "no" / "where"))
    with pytest.raises(FileNotFoundError, match="CLR_HOME must be a folder, or a new one in a folder, got '.*where'"):
        Study().status()


def test_pictures_are_saved_in_a_folder_below_the_users_home(headline, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # on Windows
    pictures.save(headline, "~/images")
    assert (tmp_path / "images" / "headline.png").exists()


def test_a_home_may_be_called_after_a_scale(tmp_path, monkeypatch):
    monkeypatch.setenv("CLR_HOME", str(tmp_path / "clr-quick"))
    assert Study("quick").root.parent == tmp_path / "clr-quick" / "runs" / "synthetic-quick"


def test_status_says_scale_data_set_and_what_has_finished(headline):
    status = headline.status()
    assert status.startswith(
        "Scale full, data set cifar10. Finished:\n\n- `headline`, 6 of 10 runs: Does the triangular"
    )
    assert "\n- `headline-controls`, 3 of 15 runs: Is it the headline's cycles, or their higher rate?" in status
    assert Study("quick").status().startswith("Scale quick, data set no data set: nothing has finished yet.")


def test_a_notebook_of_the_main_job_reads_the_folder_that_was_trained_in(headline, monkeypatch, tmp_path):
    save("headline", "fixed", 0, {70: 0.2}, scale="tiny")
    (paths.home() / "runs" / "cifar10-tiny").rename(tmp_path / "elsewhere")
    assert Study("tiny").runs("headline").empty
    monkeypatch.setenv("CLR_SCALE", "tiny")
    monkeypatch.setenv("CLR_RESULTS", str(tmp_path / "elsewhere" / "results"))
    assert Study("tiny").runs("headline")["test_accuracy"].tolist() == [0.2]
    assert len(Study().runs("headline")) and Study("tiny", precision="bfloat16").runs("headline").empty


def test_a_cycle_has_the_length_of_the_scale():
    assert (Study().cycle, Study("tiny").cycle) == (4000, 4)


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(ValueError, match="scale must be 'full' or"):
        Study("half")
    with pytest.raises(ValueError, match="seeds must be"):
        Study(seeds=0)


@pytest.mark.parametrize("name", ["headline", "cycle-ends", "cycle", "differences"])
def test_a_picture_of_the_headline_is_drawn_from_the_runs_there(headline, name):
    assert pictures.PICTURES[name](headline).axes


def test_the_whole_curves_are_drawn_above_an_accuracy(headline, capsys):
    assert pictures.whole(headline, lowest=0.5).axes[0].get_ylim()[0] == 0.5
    assert pictures.whole(Study("quick"), lowest=0.5) is None
    assert "Not finished at scale quick: `python -m clr run headline" in capsys.readouterr().out


def test_a_range_test_is_drawn_from_held_out_images_once_there_is_one(headline):
    curve = {100 * k: 0.1 + 0.4 * (k > 2) - 0.2 * (k > 6) for k in range(1, 9)}
    labels = []
    for arm in ("quick-unit", "quick-unit-held-out"):
        save("range-test", arm, 0, curve)
        labels.append(pictures.range_test(Study(), "quick-unit").axes[0].get_ylabel())
    assert labels == ["accuracy on test images", "accuracy on held-out images"]


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_whose_runs_have_not_finished_says_how_to_train_them(name, capsys):
    assert pictures.PICTURES[name](Study("quick")) is None
    assert "Not finished at scale quick: `python -m clr run " in capsys.readouterr().out


@pytest.mark.parametrize("scale", ["quick", "tiny"])
def test_every_picture_of_shortened_runs_is_drawn_or_says_why_not(scale, capsys):
    for name in experiments.EXPERIMENTS:
        for (arm, seed), config in experiments.configs(name, 2, scale).items():
            every = config.evaluate_every
            ends = {*range(every, config.iterations + 1, every), config.iterations, config.last_cycle_end}
            save(name, arm, seed, {k: 0.5 + k / config.iterations / 10 for k in sorted(ends)}, scale)
    for name, draw in pictures.PICTURES.items():
        figure = draw(Study(scale))
        said = capsys.readouterr().out
        assert (figure is None) == bool(said), name
        if name in ("paper-table-1", "paper-table-4"):
            assert said == f"What others reported of {'resnet' if '4' in name else name} is of full length.\n"
        plt.close("all")


def test_pictures_whose_runs_have_finished_are_saved_in_silence(headline, tmp_path, capsys):
    pictures.save(headline, tmp_path / "images")
    saved = {path.stem for path in (tmp_path / "images").iterdir()}
    assert saved == {"headline", "cycle-ends", "cycle", "differences"}
    assert capsys.readouterr().out == "" and not plt.get_fignums()


def test_the_picture_of_precision_pairs_bfloat16_with_the_headlines_rows(headline, capsys):
    for seed, noise in enumerate(NOISE):
        save("precision", "fixed", seed, {20_000: 0.705 + noise})
        save("precision", "triangular", seed, {20_000: 0.76 + 2 * noise})
    for seed, noise in enumerate(NOISE):
        save("headline", "fixed", seed, {20_000: 0.7 + noise, 70_000: 0.75})
        save("headline", "triangular", seed, {20_000: 0.76 + noise})
    ax = pictures.precision(headline).axes[0]
    assert [text.get_text() for text in ax.texts] == ["n = 3", "n = 3"]
    assert "20,000 updates bfloat16 is at most 0.5" in ax.get_title().replace("\n", " ")
    assert [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 1] == pytest.approx([0.5, 0.0])
    said = sentences.precision(headline)
    assert (
        said.count("**No, within one point.** Bfloat16 − float32 at 20,000, step decay at a low rate, quick net: +0.5")
        == 1
    )
    assert Study(precision="bfloat16").command("headline").endswith("--precision bfloat16")
    other = Study(precision="bfloat16")  # of other experiments: this one has both precisions
    assert pictures.precision(other).axes and sentences.precision(other) == said
    assert said.count("**") == 2 and "). Bfloat16 − float32 at 20,000, cycles, quick net: +0.0 points" in said


def test_the_sentences_of_the_headline(headline):
    assert sentences.fewer_updates(headline) == (
        "The long schedule, step decay at a low rate, ends at 75.0% after 70,000 updates (n = 3). "
        "The ends of cycles first reach that after 8,000 updates, in 3 of 3 runs."
    )
    assert sentences.without_cycles(headline) == (
        "After 32,000 updates: a line to zero ends 2.0 points above the cycles (95% CI 1.8 to 2.2, n = 3)."
    )


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([1.0, 2.0, 3.0], "no clear difference between a and b: +2.0 points (95% CI -0.5 to 4.5, n = 3)"),
        ([2.0, 2.1, 1.9], "a ends 2.0 points above b (95% CI 1.8 to 2.2, n = 3)"),
        ([-2.0, -2.1, -1.9], "a ends 2.0 points below b (95% CI 1.8 to 2.2, n = 3)"),
        ([-2.0, -3.0], "a ends 2.5 points below b (n = 2)"),
    ],
)
def test_the_word_follows_the_interval(points, words):
    assert sentences.gap("a", "b", pd.Series(points)) == words


def test_the_conclusions_are_the_answers_with_what_they_are_read_from(headline):
    assert sentences.conclusions(headline).splitlines()[1] == (
        "- Is it the cycles? Against a line to zero? **No, the line finishes higher.** "
        "Line − cycles at 32,000, quick net: +2.0 points (+1.8 to +2.2, n = 3)."
    )


def test_a_shortened_run_has_no_finding():
    assert sentences.fewer_updates(Study("quick")) == "Quick run: compare shapes, not accuracies."
    assert sentences.conclusions(Study("tiny")) == "Tiny run: compare shapes, not accuracies."


def test_a_finding_whose_runs_are_missing_says_what_trains_them():
    assert sentences.controls(Study()) == "No finding yet: `python -m clr run controls` trains what is missing."


# Where a study's runs lie.


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16', got 'half'"):
        Study(precision="half")


def test_results_on_real_images_come_before_synthetic_ones():
    for dataset in ("synthetic", "zoo"):  # not in the order of the alphabet
        save("headline", "fixed", 0, {70: 0.2}, "tiny", dataset)
    assert Study("tiny").name == "zoo" and Study("tiny", dataset="synthetic").root.parent.name == "synthetic-tiny"


def test_of_several_data_sets_the_first_by_name_is_shown_unless_another_is_asked_for():
    for dataset in ("c", "a", "b"):
        save("headline", "fixed", 0, {70: 0.2}, "tiny", dataset)
    assert Study("tiny").name == "a"
    assert Study("tiny", dataset="b").root.parent.name == "b-tiny"


def test_a_home_may_be_called_synthetic(tmp_path, monkeypatch):
    monkeypatch.setenv("CLR_HOME", str(tmp_path / "synthetic"))
    for dataset in ("synthetic", "zoo"):
        save("headline", "fixed", 0, {70: 0.2}, "tiny", dataset)
    assert Study("tiny").name == "zoo"


@pytest.mark.parametrize("dataset", [None, "zoo"])
@pytest.mark.parametrize(("scale", "precision"), [("quick", None), ("full", "bfloat16")])
def test_a_study_without_runs_looks_where_they_will_be_kept(dataset, scale, precision):
    study = Study(scale, dataset=dataset, precision=precision)
    assert study.root == experiments.results_folder(dataset or "synthetic", scale, precision)
    study.root.mkdir(parents=True)
    assert Study(scale, precision=precision).root == study.root  # found by its name


def test_a_command_names_scale_and_precision():
    assert Study("quick").command("init") == "python -m clr run init --scale quick"
    assert Study(precision="bfloat16").command("init") == "python -m clr run init --precision bfloat16"


def test_the_settings_of_an_arm_are_those_of_the_studys_scale_and_precision():
    config = Study("tiny", precision="bfloat16").config("headline", "fixed")
    assert config == experiments.configs("headline", 1, "tiny", precision="bfloat16")["fixed", 0]
    assert (config.seed, config.iterations, config.precision) == (0, 70, "bfloat16")


def test_runs_of_several_experiments_have_labels_of_their_own(headline):
    runs = headline.runs("headline", "headline-controls", "init")
    assert runs.index.tolist() == list(range(len(runs))) and len(runs) == 3 * (2 + 4 + 3)


def test_status_counts_the_runs_of_the_seeds_and_names_the_arms_that_are_shown(headline):
    first, blank, *finished = Study(seeds=2, arms=["fixed"]).status().splitlines()
    assert (first, blank) == ("Scale full, data set cifar10, only the arms fixed. Finished:", "")
    assert [text.partition(":")[0] for text in finished] == ["- `headline`, 2 of 2 runs"]
    empty = "Scale full, bfloat16, data set no data set: nothing has finished yet. `python -m clr run headline "
    assert Study(precision="bfloat16").status().startswith(empty)
