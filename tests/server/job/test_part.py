"""Parts that nodes have of a checkpoint, told by scripted agents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from blake3 import blake3

from periflow_sdk.api import models as m
from periflow_sdk.errors import NotFoundError
from periflow_sdk.snapshots.manifest import Chunk, Extent, FileEntry, Manifest
from periflow_server.db.base import Database, utcnow
from periflow_server.db.reference import forget_unused_snapshots
from periflow_server.db.schema import import_tables

EVERY_STEP = 2**62


class Pair:
    """A job on two nodes, and what its agents say of checkpoints."""

    def __init__(self, desk: Any, **changes: Any) -> None:
        self.desk = desk
        self.job = desk.submit(vm="local-cpu-pair", num_devices=2, **changes)
        self.nodes = [desk.agent(self.job, node=node) for node in (0, 1)]
        for agent in self.nodes:
            agent.register()
        for agent in self.nodes:
            agent.beat()

    def snapshot(self, **files: str) -> str:
        """The id of a snapshot of files whose content is in the store."""
        chunks, entries = [], []
        for number, (name, text) in enumerate(sorted(files.items())):
            ref = m.ChunkRef(hash=blake3(text.encode()).hexdigest(), size=len(text))
            for place in self.desk.api.missing_chunks(self.desk.project, [ref]):
                self.desk.api._http.put(place.url, content=text.encode()).raise_for_status()
            chunks.append(Chunk(ref.hash, ref.size))
            extents = (Extent(number, 0, ref.size),)
            entries.append(FileEntry(name, ref.size, 0o644, ref.hash, extents))
        document = Manifest(tuple(chunks), tuple(entries)).to_bytes()
        return str(self.desk.api.commit_snapshot(self.desk.project, document).id)

    def say(
        self,
        node: int,
        passed: int | None = None,
        *parts: m.CheckpointPart,
        is_over: bool = False,
        generation: int = 0,
        **fields: Any,
    ) -> list[str]:
        """Report; what became of the parts named."""
        passage = m.Passage(generation=generation, step=passed or -1, is_over=is_over)
        passages = [] if passed is None else [passage]
        body = m.PartsReport(parts=list(parts), passages=passages, **fields)
        return [state.status for state in self.nodes[node].api.report_parts(body).parts]

    def part(self, step: int = 10, node: int = 0, **fields: Any) -> m.CheckpointPart:
        """A part that is whole, unless said otherwise."""
        if not {"snapshot_id", "failure"} & fields.keys():
            fields["snapshot_id"] = self.snapshot(**{f"rank-{node}": f"part {node} of {step}"})
        described = {"save_type": "NORMAL", "size": 5, "first_rank": node, **fields}
        return m.CheckpointPart(step=step, **described)

    @property
    def checkpoints(self) -> list[m.Checkpoint]:
        found: list[m.Checkpoint] = self.desk.job(self.job.number).checkpoints
        return found

    def files(self, checkpoint: m.Checkpoint) -> dict[str, str]:
        """What is in a checkpoint: name → blake3."""
        document = self.desk.api.manifest(self.desk.project, checkpoint.snapshot_id)
        return {entry.path: entry.hash for entry in Manifest.parse(document).files}


@pytest.fixture
def pair(desk: Any) -> Pair:
    return Pair(desk)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_parts_are_joined_when_every_node_has_passed_the_step(pair: Pair, order: Any) -> None:
    first, second = order
    assert pair.say(first, 10, pair.part(node=first)) == ["uploading"]
    assert pair.say(first, 11, pair.part(node=first)) == ["uploading"]
    assert pair.say(second, 9) == []
    assert [c.status for c in pair.checkpoints] == ["uploading"]
    assert pair.say(second, 10, pair.part(node=second)) == ["ready"]
    (checkpoint,) = pair.checkpoints
    assert pair.files(checkpoint).keys() == {"rank-0", "rank-1"}


def test_node_without_a_part_only_has_to_pass(pair: Pair) -> None:
    pair.say(0, 12, pair.part())
    pair.say(1, EVERY_STEP)
    (checkpoint,) = pair.checkpoints
    assert (checkpoint.status, list(pair.files(checkpoint))) == ("ready", ["rank-0"])


def test_announced_part_is_waited_for_though_its_node_has_passed(pair: Pair) -> None:
    pair.say(0, 12, pair.part())
    pair.say(1, 12, pair.part(node=1, snapshot_id=None))
    assert [c.status for c in pair.checkpoints] == ["uploading"]
    pair.say(1, 12, pair.part(node=1))
    assert [c.status for c in pair.checkpoints] == ["ready"]


def test_the_lowest_rank_wins_where_nodes_have_the_same_file(pair: Pair) -> None:
    higher, lower = pair.snapshot(model="of rank 1", b="b"), pair.snapshot(model="of rank 0", a="a")
    pair.say(1, 12, pair.part(first_rank=1, snapshot_id=higher))
    pair.say(0, 12, pair.part(first_rank=0, snapshot_id=lower))
    (checkpoint,) = pair.checkpoints
    files = pair.files(checkpoint)
    assert files.keys() == {"model", "a", "b"}
    assert files["model"] == blake3(b"of rank 0").hexdigest()


def test_saying_it_again_changes_nothing(pair: Pair) -> None:
    parts = [pair.part(node=node) for node in (0, 1)]
    for _ in range(3):
        for node in (0, 1):
            pair.say(node, 10, parts[node])
    assert pair.say(0, 11, parts[0]) == ["ready"]
    kinds = [event.kind for event in pair.desk.job(pair.job.number).events]
    assert kinds.count("checkpoint") == 1 and len(pair.checkpoints) == 1


def test_training_that_ended_before_the_step_leaves_it_unpublished(pair: Pair) -> None:
    pair.say(0, 12, pair.part())
    pair.say(1, 9, is_over=True)
    (checkpoint,) = pair.checkpoints
    assert checkpoint.status == "failed"
    assert "node 1 ended before its ranks had passed step 10" in (checkpoint.reason or "")


def test_parts_from_before_and_after_a_restart_of_the_ranks_do_not_join(pair: Pair) -> None:
    pair.say(0, 12, pair.part(generation=0))
    pair.say(1, 12, pair.part(node=1, generation=1), generation=1)
    assert [c.status for c in pair.checkpoints] == ["uploading", "uploading"]


def test_failure_of_one_part_fails_the_checkpoint_with_its_reason(pair: Pair) -> None:
    pair.say(0, 12, pair.part())
    pair.say(1, 12, pair.part(node=1, failure="the disk is full"))
    (checkpoint,) = pair.checkpoints
    assert (checkpoint.status, checkpoint.reason) == ("failed", "node 1: the disk is full")


def test_sharded_checkpoint_needs_the_parts_of_all_ranks(pair: Pair) -> None:
    for step, count in ((10, 1), (20, 2)):
        pair.say(0, step, pair.part(step, shards={"sharded": (3, 1)}))
        pair.say(1, step, pair.part(step, node=1, shards={"sharded": (3, count)}))
    by_step = {c.step: c for c in pair.checkpoints}
    assert by_step[10].status == "failed" and "not all of 3 ranks" in (by_step[10].reason or "")
    assert by_step[20].status == "ready"


def test_emergency_save_that_a_node_did_not_agree_to_is_not_published(pair: Pair) -> None:
    """A node that did not hear of the commit in time has finished without a part."""
    pair.say(0, EVERY_STEP, pair.part(save_type="EMERGENCY"), agreed_step=10)
    pair.say(1, EVERY_STEP, agreed_step=0)
    (checkpoint,) = pair.checkpoints
    assert checkpoint.status == "failed"
    assert "node 1 had not agreed to step 10" in (checkpoint.reason or "")


def test_emergency_save_that_all_agreed_to_is_published(pair: Pair) -> None:
    pair.say(0, EVERY_STEP, pair.part(save_type="EMERGENCY"), agreed_step=10)
    pair.say(1, EVERY_STEP, agreed_step=10)
    assert [c.status for c in pair.checkpoints] == ["ready"]


def test_file_that_is_a_folder_on_another_node_fails_the_checkpoint(pair: Pair) -> None:
    pair.say(0, 12, pair.part(snapshot_id=pair.snapshot(model="a file")))
    pair.say(1, 12, pair.part(node=1, snapshot_id=pair.snapshot(**{"model/part": "in a folder"})))
    (checkpoint,) = pair.checkpoints
    assert checkpoint.status == "failed" and "cannot be joined" in (checkpoint.reason or "")


def test_snapshot_of_another_project_is_refused(pair: Pair) -> None:
    with pytest.raises(NotFoundError):
        pair.say(0, 12, pair.part(snapshot_id="ab" * 32))


def test_restarted_server_remembers_what_was_said(own_desk: Any) -> None:
    pair = Pair(own_desk)
    pair.say(0, 12, pair.part())
    own_desk.server.restart()
    own_desk.reconnect()
    second = type(pair.nodes[1].api)(
        own_desk.server.url, (pair.nodes[1].folder / "token").read_text()
    )
    pair.nodes[1].api = second
    assert pair.say(1, 12, pair.part(node=1)) == ["ready"]
    assert pair.files(pair.checkpoints[0]).keys() == {"rank-0", "rank-1"}


def test_next_attempt_hands_in_what_a_lost_node_had(pair: Pair) -> None:
    pair.say(0, EVERY_STEP, pair.part())
    pair.nodes[0].finish()
    pair.nodes[1].finish("lost", None)
    assert [c.status for c in pair.checkpoints] == ["failed"]
    second = [pair.desk.agent(pair.job, 2, node) for node in (0, 1)]
    pair.nodes = second
    assert pair.say(1, 12, pair.part(node=1), attempt=1) == ["ready"]
    with pytest.raises(NotFoundError):
        pair.say(1, 12, attempt=3)


def test_parts_are_kept_from_collection_until_they_are_joined(own_desk: Any) -> None:
    pair = Pair(own_desk)
    loose = pair.snapshot(x="nobody's")
    pair.say(0, 12, pair.part())
    import_tables()
    database = Database(own_desk.server.database_url)
    try:
        with database.write() as session:
            gone = forget_unused_snapshots(session, utcnow() + timedelta(days=1), 100)
    finally:
        database.close()
    assert gone == [(own_desk.project, loose)]
    pair.say(1, EVERY_STEP)
    assert [c.status for c in pair.checkpoints] == ["ready"]
