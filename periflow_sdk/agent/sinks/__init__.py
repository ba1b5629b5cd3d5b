"""Where else a job's records go: W&B and TensorBoard, each from its own place in the journal.

Every sink is a process of its own at nice 19 (``python -m periflow_sdk.agent.sinks``): one that
hangs or dies touches neither training nor agent. `sinks/` in the node folder has its memory.
"""
