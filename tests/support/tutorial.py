"""What the tutorial prints."""

from __future__ import annotations

_PANELS = """\
╭─────────────────────────── Overview ───────────────────────────╮
│  Name          {name}                                │
│  Cloud         fai                                             │
│  Region        -                                               │
│  Storage Name  -                                               │
│  Active        Y                                               │
╰────────────────────────────────────────────────────────────────╯
╭──────────────────────────── Files ─────────────────────────────╮
│ /                                                              │
│ └── 📂 cifar-100-python                                        │
│     ├── meta (1.5 kB)                                          │
│     ├── test (31.0 MB)                                         │
│     └── train (155.2 MB)                                       │
╰────────────────────────────────────────────────────────────────╯
╭─────────────────────────── Metadata ───────────────────────────╮
│ {{}}                                                             │
╰────────────────────────────────────────────────────────────────╯
"""


def tutorial_panels(name: str) -> str:
    """The panels of its dataset, under another name, and its files in the order of their names."""
    return _PANELS.format(name=f"{name:<16}")
