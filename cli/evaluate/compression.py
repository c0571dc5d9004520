"""`twhin evaluate compression`: what is lost when vectors are compressed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluate.options import RunOption, SeedOption
from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, emit, line, table
from cli.progress import progress

if TYPE_CHECKING:
    from evaluation.compression import CompressionReport

LOSS_BUDGET = 0.02


def compression(
    run: RunOption,
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 1000,
    loss_budget: Annotated[
        float, typer.Option(help="Relative fall of recall@50 that is still fine.", min=0)
    ] = LOSS_BUDGET,
    seed: SeedOption = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compress a run's vectors 8 to 64 times, measure what is lost, and advise a code size (the paper's figure 4)."""
    measured = measure_compression(run, users, loss_budget, seed)
    asked = {"users": users, "loss_budget": loss_budget, "seed": seed}
    emit(measured, as_json, lambda: _show(measured))
    write(report, "Compression", asked, run=run, compression=(measured,))


def measure_compression(run: Path, users: int, loss_budget: float = LOSS_BUDGET, seed: int = 1) -> "CompressionReport":
    """The sweep over code sizes on the run's held-out edges."""
    import numpy as np

    from bundle.run import open_run
    from evaluation.compression import follow_recall, sweep
    from evaluation.task import follow_task
    from index.builder.compression import Learner

    opened = open_run(run, progress())
    task = follow_task(opened.graph, "test", np.random.default_rng(seed), n_users=users)
    relation = opened.graph.relation(task.relation)
    forward = opened.relation_vectors[relation.index, 0]
    vectors = opened.vectors[relation.target]
    return sweep(
        relation.target,
        vectors,
        opened.vectors[relation.source][task.users] + forward,
        Learner(training_vectors=32_768, seed=seed),
        follow_recall(task, opened.vectors[relation.source], forward),
        task=f"{task.relation}, recall@50",
        loss_budget=loss_budget,
        progress=progress(),
    )


def _show(report: "CompressionReport") -> None:
    columns = ("code", "bytes", "ratio", "MSE", "cosine", "recall@100", report.task, "loss")
    rows = [
        [
            "OPQ" if row.rotated else "PQ",
            row.subquantizers,
            row.ratio,
            row.mse,
            row.cosine,
            row.recall_at_100,
            row.task_recall,
            row.task_loss,
        ]
        for row in sorted(report.rows, key=lambda row: (row.ratio, row.rotated))
    ]
    table(
        f"{report.vectors:,} {report.entity_type} vectors of {report.dim}; uncompressed {report.uncompressed:.4f}",
        columns,
        rows,
    )
    if not report.uncompressed:
        line("Nothing is found with whole vectors either, so that no code can be told from another by it.")
    elif report.advised is None:
        line(f"No code keeps the loss within {report.loss_budget:.1%}.")
    else:
        kind = "OPQ" if report.advised.rotated else "PQ"
        line(f"Advised: {kind} with {report.advised.subquantizers} bytes, {report.advised.ratio:g} times smaller.")
