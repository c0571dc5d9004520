"""Clusters: every one has members, medoids are members, the default number follows the size."""

import numpy as np
import pytest

from bundle.errors import ConfigError
from index.builder.clusters import Pooled, assign_nearest, cluster, default_count, fill_empty, medoids_of
from index.builder.config import ClusterConfig
from index.builder.devices import Device

CPU = Device(n_gpus=0, has_cagra=False)


def test_medoids_are_the_members_nearest_their_centroids() -> None:
    rng = np.random.default_rng(1)
    vectors = {"a": rng.normal(0, 1, (70, 4)).astype(np.float32), "b": rng.normal(0, 1, (50, 4)).astype(np.float32)}
    alike = {name: np.ones(len(part), np.int64) for name, part in vectors.items()}
    found = cluster(vectors, alike, ("a", "b"), ClusterConfig(count=6), 1, CPU)
    assert found.sizes.sum() == 120
    for number, centroid in enumerate(found.centroids):
        distances = {
            (position, row): float(np.square(vectors[name][row] - centroid).sum())
            for position, name in enumerate(found.types)
            for row in np.flatnonzero(found.assignment[name] == number).tolist()
        }
        medoid = (int(found.medoid_types[number]), int(found.medoid_rows[number]))
        assert medoid in distances
        assert distances[medoid] == pytest.approx(min(distances.values()), abs=1e-6)


def test_a_medoid_has_as_many_edges_as_its_cluster_has_on_average() -> None:
    """An entity that has just come lies between the few that it is joined to, nearest of all, and stands for none."""
    vectors = np.array([[0, 0], [0.1, 0], [1, 0], [-2, 0], [9, 9]], dtype=np.float32)
    pooled, assignment = Pooled([vectors[:2], vectors[2:]]), [np.zeros(2, np.int32), np.array([0, 0, 1], np.int32)]
    degrees = [np.array([0, 1]), np.array([40, 200, 0])]  # on average 60: of cluster 0 the last alone has so many
    types, rows = medoids_of(pooled, degrees, np.array([[0, 0], [8, 8]], np.float32), assignment)
    assert (types.tolist(), rows.tolist()) == ([1, 1], [1, 2])
    degrees[1][1] = 100  # now 35
    types, rows = medoids_of(pooled, degrees, np.array([[0, 0], [8, 8]], np.float32), assignment)
    assert (types.tolist(), rows.tolist()) == ([1, 1], [0, 2])


def test_duplicates_leave_no_cluster_empty() -> None:
    vectors = np.ones((40, 3), dtype=np.float32)
    found = cluster({"a": vectors}, {"a": np.ones(40, np.int64)}, ("a",), ClusterConfig(count=9), 1, CPU)
    assert found.sizes.min() >= 1
    assert found.sizes.sum() == 40


def test_an_empty_cluster_takes_the_farthest_member_of_the_largest() -> None:
    # The third row is of another type.
    rows = np.array([[0, 0], [1, 0], [9, 0], [50, 0]], dtype=np.float32)
    pooled, assignment = Pooled([rows[:2], rows[2:]]), [np.zeros(2, np.int32), np.zeros(2, np.int32)]
    centroids = np.array([[1, 0], [50, 0], [500, 0]], dtype=np.float32)
    assign_nearest(pooled, centroids, assignment)
    fill_empty(pooled, centroids, assignment)
    assert np.concatenate(assignment).tolist() == [0, 0, 2, 1]
    assert centroids[2].tolist() == [9, 0]
    types, medoids = medoids_of(pooled, [np.ones(2, np.int64)] * 2, centroids, assignment)
    assert (types.tolist(), medoids.tolist()) == ([0, 1, 1], [1, 1, 0])


def test_more_clusters_than_entities_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"clusters.count is 5; there are 4 entities"):
        cluster({"a": np.eye(4, dtype=np.float32)}, {}, ("a",), ClusterConfig(count=5), 1, CPU)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (40, 8), (20_000, 128), (81_306, 256), (1_000_000, 1024)])
def test_the_default_number_of_clusters(n: int, count: int) -> None:
    assert default_count(n) == count
