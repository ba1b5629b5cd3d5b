"""Several nodes of one job: placed together, they find each other."""

from __future__ import annotations

from pathlib import Path

ALL_REDUCE = Path(__file__).with_name("all_reduce.py")


def test_ranks_of_two_nodes_meet_in_an_all_reduce(run_pair, torchrun):
    job = run_pair(torchrun(ALL_REDUCE))
    detail = job.wait("success")
    said = sorted(line for line in job.log if line.startswith("RANK="))
    assert said == [
        f"RANK={n} LOCAL_RANK=0 WORLD_SIZE=2 NODE_RANK={n} NUM_NODES=2 NPROC_PER_NODE=1 total=11"
        for n in range(2)
    ], job.story()
    assert "Attempt 1 got 2 local-cpu-pair devices on 2 nodes." in job.events
    assert len(detail.attempts) == 1


def test_two_ranks_on_each_of_two_nodes_meet(run_pair, torchrun):
    job = run_pair(torchrun(ALL_REDUCE, ranks=2))
    job.wait("success")
    said = [line.split() for line in sorted(job.log) if line.startswith("RANK=")]
    places = [(words[0], words[1], words[3], words[-1]) for words in said]
    assert places == [
        (f"RANK={n}", f"LOCAL_RANK={n % 2}", f"NODE_RANK={n // 2}", "total=1111") for n in range(4)
    ], job.story()


def test_command_without_a_launcher_has_the_rank_of_its_node(run_pair, client):
    script = "import periflow_sdk as pf; pf.init(total_train_steps=1); "
    script += "s = pf.train_step(); s.__enter__(); pf.metric({'x': pf.status().rank}); "
    job = run_pair(f'python -c "{script} s.__exit__(None, None, None)"')
    job.wait("success")
    values = [
        client.metric_series(client.project, job.job.number, "x", rank=rank).values
        for rank in range(2)
    ]
    assert values == [[0], [1]]
