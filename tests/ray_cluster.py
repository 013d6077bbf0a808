"""A Ray cluster of two nodes on this machine, as a fixture; it ends with the test."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A cluster with a head without processors and two nodes of one each, to which RAY_ADDRESS points."""
    ray = pytest.importorskip("ray", reason="the package ray is not installed (requirements-ray.txt)")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    size = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **size})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **size)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
