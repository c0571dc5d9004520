"""What users have by other relations, as a task knows it: of those asked for alone, the newer the more."""

from pathlib import Path

import numpy as np
import pytest

from evaluation import task
from evaluation.task import follow_task
from graph.prepare import prepare

GRAPH = """
[entities.user]
id = "int64"
[entities.item]
id = "int64"
[[relations]]
name = "bought"
source = "user"
target = "item"
files = "bought.csv"
[[relations]]
name = "viewed"
source = "user"
target = "item"
files = "viewed.csv"
time = "at"
[split]
by = "random"
relation = "bought"
fraction = 0.3
"""


def test_what_is_had_by_other_relations_is_read_of_the_users_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a build, whose memory is counted by the relation that it learns, would hold the largest beside each."""
    rng = np.random.default_rng(1)
    bought, viewed = (np.unique(rng.integers(0, (60, 40), (n, 2)), axis=0).tolist() for n in (600, 1500))
    (tmp_path / "bought.csv").write_text("src,dst\n" + "".join(f"{user},{item}\n" for user, item in bought))
    lines = [f"{user},{item},{at}\n" for at, (user, item) in zip(rng.permutation(len(viewed)), viewed, strict=True)]
    (tmp_path / "viewed.csv").write_text("src,dst,at\n" + "".join(lines))
    (tmp_path / "graph.toml").write_text(GRAPH)
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    monkeypatch.setattr(task, "BLOCK_EDGES", 100)

    found = follow_task(graph, "test", rng, relation="bought", n_users=7)

    train = graph.relation("viewed").train
    assert found.elsewhere is not None
    assert train.time is not None
    assert np.flatnonzero(found.elsewhere.degrees()).tolist() == found.users.tolist()
    for user in found.users.tolist():
        rows, newness = found.elsewhere.row(user), found.elsewhere.row_weights(user)
        mine = np.flatnonzero(train.src == user)
        assert rows.tolist() == sorted(train.dst[mine].tolist())
        assert rows[np.argsort(newness)].tolist() == train.dst[mine[np.argsort(train.time[mine])]].tolist()
        assert ((newness >= 1) & (newness < 2)).all()
