"""extract >> validate >> load in three pods, which share nothing but the stage's volume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cluster import PROJECT, configure, pods
from sankofa_airflow.kubernetes import IMAGE_GROUP, STAGE
from sankofa_airflow.task import sankofa_task


@pytest.fixture
def stage(on_kubernetes: Any, settings: Any, tmp_path: Path) -> Any:
    """A volume that several pods may write, and the claim to it; returns its folder."""
    folder = tmp_path / "stage"
    folder.mkdir()
    os.chown(folder, IMAGE_GROUP, IMAGE_GROUP)  # a folder of the node is left as it is: the other kinds obey fsGroup
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    on_kubernetes.client().create_persistent_volume({
        "metadata": {"name": "stage"},
        "spec": {"capacity": size, "accessModes": modes, "storageClassName": "own", "hostPath": {"path": str(folder)}},
    })  # fmt: skip
    on_kubernetes.client().create_namespaced_persistent_volume_claim("sankofa", {
        "metadata": {"name": "stage"},
        "spec": {"accessModes": modes, "storageClassName": "own", "resources": {"requests": size}},
    })  # fmt: skip
    configure(on_kubernetes, "staged", f"{PROJECT}stores: {{stage: {{directory: {STAGE}}}}}\nstage: {{store: stage}}\n")
    settings(kubernetes_config_map="staged", kubernetes_stage_claim="stage")
    return folder


def test_extract_validate_load_in_three_pods_move_rows_over_the_stage(stage, on_kubernetes, locks, context, school):
    uri = "sankofa://warehouse/service_desk"
    for command in ("extract", "validate", "load"):
        own = context(command, run="staged")
        lock, asset = locks / "service_desk.lock.json", uri if command == "load" else None
        operator = sankofa_task(command, command, "service_desk", lock=lock, hostnetwork=True, asset=asset)
        result = operator.execute(own)
        assert (result["status"], result["command"], result["run_id"]) == ("ok", command, "dag/staged")
        assert command != "extract" or [one for one in stage.rglob("*") if one.is_file()]
    assert own["outlet_events"].emitted[uri]["changed"] > 0
    assert int(school.psql("warehouse", sql="SELECT count(*) FROM service_desk.agent")) > 0
    assert pods(on_kubernetes) == []
