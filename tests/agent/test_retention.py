"""A job whose old checkpoints go while it trains, and which goes on from the newest."""

from __future__ import annotations

TRAINING = """
import os, sys, time
from pathlib import Path
import periflow_sdk as pf
gate = Path(sys.argv[1])
pf.init(total_train_steps=8)
path = Path(os.environ["CKPT_DIR"]) / "model.bin"
print("begins at", pf.current_step(), path.read_text() if path.exists() else "-", flush=True)
for step in range(pf.current_step() + 1, 9):
    with pf.train_step():
        path.write_text(f"step {step}")
        pf.metric({"loss": abs(step - 3)})
    pf.upload_checkpoint()
    if step == 6:
        pf.start_step()
        while not gate.exists():
            time.sleep(0.02)
        os._exit(75)
"""


def test_job_keeps_its_newest_and_best_checkpoints_and_restarts_from_them(
    run, client, tmp_path, until
) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    best = {"metric": "loss", "mode": "min"}
    job = run(
        f"exec python {tmp_path}/train.py {tmp_path}/gate",
        restart={"backoff_seconds": 0},
        retention={"keep_last": 2, "keep_best": best},
    )

    def steps():
        return [c.step for c in client.checkpoints(client.project, job=job.job.number)]

    until(lambda: steps() == [6, 5, 3], job.story)
    (tmp_path / "gate").touch()
    assert job.wait().status == "success"
    assert "begins at 6 step 6" in job.log
    until(lambda: steps() == [8, 7, 3], job.story)
    removed = [e.message for e in job.detail.events if e.kind == "retention"]
    rules = "keep_last 2, keep_best 1 by min loss"
    assert sorted(removed) == [
        f"The checkpoint of step {step} was removed: {rules}." for step in (1, 2, 4, 5, 6)
    ]
