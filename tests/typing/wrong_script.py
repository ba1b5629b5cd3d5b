"""Mistakes that mypy finds before the script runs: one a line, named in the comment."""

from __future__ import annotations

import periflow_sdk as pf

pf.init(total_train_step=10)  # arg-type
pf.init("100", None)  # arg-type
pf.metric([("loss", 1.0)])  # arg-type
pf.metric({1: 1.0})  # dict-item
pf.save_checkpoint({}, format="onnx")  # arg-type
pf.upload_checkpoint(3)  # arg-type
pf.start_steps()  # attr-defined
