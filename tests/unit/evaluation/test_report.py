"""The page: self-contained, well-formed, with every method in it; charts; what it says about mixtures."""

import base64
import hashlib
import json
import os
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bundle.errors import UsageError
from evaluation.compression import CompressionReport, CompressionRow
from evaluation.follow import FollowReport
from evaluation.mixtures import MixtureReport, MixtureRow
from evaluation.newcomers import NewcomerRow
from evaluation.ranking.report import RankingReport, RankingRow
from evaluation.report.charts import Chart, Charts, Series
from evaluation.report.page import Report, read_report, render, write_report
from evaluation.report.provenance import Provenance, provenance
from evaluation.report.table import Column, Line, plain, table
from evaluation.report.words import mixture_in_words
from evaluation.rows import Estimate, Row

VOID = {"meta", "br", "link"}


def estimate(mean: float) -> Estimate:
    return Estimate(mean=mean, low=mean - 0.01, high=mean + 0.01, n=100)


def method(name: str, kind: str, recall: float, diversity: float = 0.5) -> Row:
    metrics = {f"recall@{k}": estimate(recall * (1 + k / 100)) for k in (10, 20, 50)}
    metrics |= {"one_way_recall@10": estimate(recall / 2), "diversity@10": estimate(diversity)}
    return Row(name=name, kind=kind, metrics=metrics, by_degree={"3-9": metrics, "10-29": metrics})


@pytest.fixture
def follow() -> FollowReport:
    rows = (
        method("blend", "strategy", 0.5),
        method("mixture_blend", "strategy", 0.4, diversity=0.8),
        method("popularity", "baseline", 0.02),
        Row(name="implicit_als_128", kind="baseline", missing="the package <implicit> is not installed"),
    )
    metrics = method("auto", "strategy", 0.2).metrics
    newcomers = (
        NewcomerRow(known=1, strategy="auto", asked="in training", metrics=metrics),
        NewcomerRow(known=1, strategy="auto", asked="by engagements", metrics=metrics, share={"recall@10": 0.913}),
    )
    return FollowReport(
        relation="follows", held_out="test", users=100, seed=1, auto="blend", rows=rows, newcomers=newcomers
    )


@pytest.fixture
def report(follow: FollowReport) -> Report:
    ranking = RankingRow(
        features="none", model="mlp", metrics={n: estimate(0.6) for n in ("rce", "roc_auc", "pr_auc", "map")}
    )
    code = {"mse": 0.1, "cosine": 0.9, "recall_at_100": 0.8, "task_recall": 0.5, "task_loss": 0.01}
    rows = tuple(
        CompressionRow(subquantizers=128 // ratio, ratio=ratio, rotated=rotated, **code)
        for rotated in (False, True)
        for ratio in (8, 16, 32)
    )
    shared = {
        "entity_type": "user",
        "dim": 32,
        "vectors": 10,
        "task": "recall",
        "uncompressed": 0.5,
        "loss_budget": 0.02,
    }
    return Report(
        title="A & B",
        created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        follow=(follow,),
        ranking=(RankingReport(task="clicks", train=10, test=5, rows=(ranking,)),),
        compression=(CompressionReport(**shared, rows=rows, advised=rows[4]),),
    )


class Balance(HTMLParser):
    """Fails when a closing tag does not fit, and notes what the page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [str(value) for name, value in attrs if name in ("src", "href") and str(value)[0] != "#"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_beside_it(report: Report) -> None:
    page = Balance()
    page.feed(render(report))
    assert page.open == []
    assert page.loads == ["data:,"]


def test_every_method_and_every_missing_one_is_on_the_page(report: Report) -> None:
    page = render(report)
    for text in (
        "blend",
        "popularity",
        "the package &lt;implicit&gt; is not installed",
        "A &amp; B",
        "clicks",
        "32×",
        "91%",
    ):
        assert text in page
    assert '<tr class="marked"><th scope="row">blend' in page


def test_codes_with_and_without_a_rotation_are_told_apart(report: Report) -> None:
    page = render(report)
    places = [page.index(f'"row">{kind}</th><td>{size}</td>') for size in (16, 8, 4) for kind in ("PQ", "OPQ")]
    assert places == sorted(places)  # by ratio, the plain code first
    assert '<tr class="marked"><th scope="row">OPQ</th><td>8</td>' in page
    assert "smallest that keeps the loss within 2.0%" in page
    unaffordable = report.compression[0].model_copy(update={"advised": None})
    assert "No code keeps the loss within 2.0%" in render(report.model_copy(update={"compression": (unaffordable,)}))


def test_the_files_hold_the_same_numbers(report: Report, tmp_path: Path) -> None:
    page = write_report(report, tmp_path / "new")
    assert page.read_text(encoding="utf-8") == render(report)
    assert Report.model_validate_json((tmp_path / "new" / "report.json").read_bytes()) == report


def rows_of(page: str, caption: str) -> list[str]:
    """The rows of the table with this caption, without its heading."""
    body = page[page.index(f"<caption>{caption}") :]
    return body[body.index("<tbody>") : body.index("</tbody>")].split("<tr")[1:]


def test_settings_may_name_paths_that_are_no_text(report: Report, tmp_path: Path) -> None:
    made = provenance({"run": Path(os.fsdecode(b"runs/\xff"))})
    write_report(report.model_copy(update={"provenance": made}), tmp_path)
    assert json.loads((tmp_path / "report.json").read_bytes())["provenance"]["settings"] == {"run": r"runs/\udcff"}


def test_the_page_says_what_it_was_made_from_and_with(report: Report) -> None:
    made = Provenance(
        version="20260102T030400Z-abcdef",
        run="runs/<one>",
        graph="9 user, 20 follows",
        graph_digest="0123456789abcdef",
        training={"dim": "64", "epochs": "6"},
        build_config_digest="fedcba9876543210",
        trained_by="c0ffee",
        settings={"users": "100", "seed": "1"},
        release="1.2.3",
        code_revision="beef",
        machine="a processor, 2 cores",
    )
    page = render(report.model_copy(update={"provenance": made}))
    for heading, text in {
        "version": "20260102T030400Z-abcdef",
        "run": "runs/&lt;one&gt;",
        "graph": "9 user, 20 follows · digest 0123456789ab",
        "training": "dim=64, epochs=6",
        "build": "settings fedcba987654",
        "trained by": "commit c0ffee",
        "measured with": "users=100, seed=1",
        "code": "twhin 1.2.3, commit beef",
        "machine": "a processor, 2 cores",
    }.items():
        assert f"<dt>{heading}</dt><dd>{text}</dd>" in page


def test_methods_are_sorted_and_the_best_value_of_each_column_is_marked(report: Report) -> None:
    rows = rows_of(render(report), "Recall and rank")
    assert [row[row.index('"row">') + 6 :].split("<")[0].strip() for row in rows] == [
        "blend",
        "mixture_blend",
        "popularity",
    ]
    assert '<td class="best">0.550' in rows[0]
    assert 'class="best"' not in rows[1] + rows[2]
    catalogue = rows_of(render(report), "Diversity, coverage")
    assert [("mixture" in row, 'class="best"' in row) for row in catalogue][0] == (True, True)


def test_equal_values_are_equally_good_and_less_can_be_better() -> None:
    columns = [Column(""), Column("a", "higher"), Column("b", "lower")]
    lines = [Line(name, [plain(a), plain(b)]) for name, a, b in (("x", 0.5, 0.1), ("y", 0.50001, 0.2), ("z", 0.1, 0.1))]
    marked = [row.count('class="best"') for row in rows_of(table("t", columns, lines, sort_by=0), "t")]
    assert marked == [1, 2, 1]  # y, x, z
    alike = [Line(name, [plain(0.5), plain(0.1)]) for name in "xy"]
    assert "best" not in table("t", columns, alike, sort_by=0)


def test_baselines_are_told_apart(report: Report) -> None:
    page = render(report)
    assert '<tr class="baseline"><th scope="row">popularity <span class="tag">baseline</span>' in page


def specs_of(page: str) -> list[dict[str, object]]:
    """The charts that stand in the page as JSON."""
    begin = '<script type="application/json" id="charts">'
    text = page[page.index(begin) + len(begin) :]
    found: list[dict[str, object]] = json.loads(text[: text.index("</script>")])
    return found


def test_every_chart_has_its_place_and_its_numbers_in_the_page(report: Report) -> None:
    page = render(report)
    specs = specs_of(page)
    assert [page.count(f'id="chart-{i}"') for i in range(len(specs) + 1)] == [1] * len(specs) + [0]
    ranked = specs[0]
    assert (ranked["kind"], ranked["labels"]) == ("rows", ["blend", "mixture_blend", "popularity"])
    ours, theirs = ranked["series"]  # type: ignore[misc]
    assert (ours["x"], ours["y"], ours["baseline"]) == ([0.55, pytest.approx(0.44)], [0.0, 1.0], False)
    assert (ours["low"][0], ours["high"][0]) == pytest.approx((0.54, 0.56))
    assert (theirs["y"], theirs["baseline"]) == ([2.0], True)


def test_no_label_can_end_the_json_or_begin_an_element(follow: FollowReport, report: Report) -> None:
    name = "</script><!--<script>&\u2028"
    row = method(name, "strategy", 0.9)
    page = render(report.model_copy(update={"follow": (follow.model_copy(update={"rows": (row, *follow.rows)}),)}))
    assert specs_of(page)[0]["labels"][0] == name  # type: ignore[index]
    assert page.count("</script>") == 2
    assert "<!--" not in page


def test_the_page_lets_its_own_script_and_style_work_and_no_other(report: Report) -> None:
    page = render(report)
    policy = page[page.index("content=") : page.index(">", page.index("content="))]
    for element in ("script", "style"):
        text = page[page.rindex(f"<{element}>") + len(element) + 2 : page.rindex(f"</{element}>")]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_points_that_are_not_numbers_are_left_out_and_a_chart_without_any_is_not_there() -> None:
    charts = Charts()
    nan = float("nan")
    charts.add(Chart("t", "x", "y", [Series("s", (1.0, 2.0, 3.0), (0.1, nan, 0.3), (0.0, 0.0, nan), (1.0, 1.0, 1.0))]))
    assert charts.specs[0]["series"] == [
        {"name": "s", "x": [1.0, 3.0], "y": [0.1, 0.3], "low": [], "high": [], "baseline": False}
    ]
    assert charts.add(Chart("t", "x", "y", [Series("s", (nan,), (1.0,))])) == ""
    assert len(charts.specs) == 1


def test_every_relation_is_on_the_page_and_in_short_at_its_top(follow: FollowReport, report: Report) -> None:
    other = follow.model_copy(update={"relation": "likes <b>"})
    page = render(report.model_copy(update={"follow": (follow, other)}))
    assert page.index("<caption>In short") < page.index("Candidates: follows</h2>")
    assert page.index("Candidates: follows</h2>") < page.index("Candidates: likes &lt;b&gt;</h2>")
    short = rows_of(page, "In short")
    assert ["blend" in row and "popularity" in row for row in short] == [True, True]


def test_a_report_of_one_relation_from_before_is_read(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(written | {"follow": written["follow"][0]}))
    assert read_report(tmp_path).follow == report.follow
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UsageError, match="no report of this release"):
        read_report(tmp_path)
    with pytest.raises(UsageError, match="is missing"):
        read_report(tmp_path / "nowhere")


def test_held_out_edges_that_are_training_edges_are_counted(follow: FollowReport, report: Report) -> None:
    assert "are training edges too" not in render(report)
    mixed = follow.model_copy(update={"held_out_edges": 200, "also_trained": 50})
    page = render(report.model_copy(update={"follow": (mixed,)}))
    assert "50 of the 200 held-out edges (25.0%) are training edges too" in page


def test_held_out_edges_that_nothing_could_predict_are_told(follow: FollowReport, report: Report) -> None:
    assert "no training edge has" not in render(report)
    late = follow.model_copy(update={"unseen_share": 2 / 3})
    page = render(report.model_copy(update={"follow": (late,)}))
    assert "66.7% of the held-out edges have an end that no training edge has" in page


def test_the_words_say_in_what_the_mixture_is_ahead_and_in_what_one_vector_is(follow: FollowReport) -> None:
    words = mixture_in_words(follow)
    assert "the mixture mixture_blend pays in the lists' diversity (0.800 to 0.500 of blend)." in words
    assert "One vector is ahead in recall in the first ten (0.440 to 0.550 of blend); recall in" in words
    turned = follow.model_copy(update={"rows": (method("blend", "strategy", 0.3), method("mixture", "strategy", 0.6))})
    assert "the mixture mixture pays in recall in the first ten (0.660 to 0.330 of blend)" in mixture_in_words(turned)
    assert "It finds more for users with 3-9, 10-29 known edges." in mixture_in_words(turned)


def test_the_sweep_is_a_table_a_chart_and_words(report: Report) -> None:
    row = method("centroid", "strategy", 0.3)
    mixtures = tuple(MixtureRow(clusters=n, modes=3, vector="centroid", row=row) for n in (64, 256))
    sweep = MixtureReport(
        relation="follows",
        users=9,
        singles=(method("fold_in", "strategy", 0.2),),
        mixtures=mixtures,
        several=(method("many", "strategy", 0.5), method("fold_in", "strategy", 0.4)),
        one=(),
    )
    page = render(report.model_copy(update={"mixtures": sweep}))
    for text in (
        "centroid, 256 clusters, 3 modes",
        "recall@50 by number of clusters",
        "For users with several interests",
    ):
        assert text in page
