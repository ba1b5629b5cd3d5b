"""Reading job files: what is accepted, and where a complaint points."""

from __future__ import annotations

from pathlib import Path

import pytest

from periflow_sdk.api.jobfile import DockerCommand, JobSpec, load_job_file, parse_job_text
from periflow_sdk.errors import JobFileError

PLAIN = """\
name: cifar
vm: local-cpu
num_devices: 2
job_setting:
  type: custom
  docker:
    image: friendliai/periflow:sdk
    command: python main.py
"""


def _complaint(text: str) -> JobFileError:
    with pytest.raises(JobFileError) as caught:
        parse_job_text(text, "job.yml")
    error = caught.value
    assert error.message.startswith(f"job.yml:{error.data['line']}:{error.data['column']}: ")
    return error


def test_everything_the_original_had_is_accepted() -> None:
    spec = parse_job_text(
        """\
name: bert
experiment: my-experiment
vm: azure-8gpu-a100-40gb-v1
num_devices: 8
job_setting:
  type: custom
  launch_mode: node
  docker:
    image: private/image:latest
    credential_id: 22e92bc3-cc2e-461c-95b4-01e7cbe6dbba
    env_var:
      FOO: bar
    command:
      setup: pip install -r requirements.txt
      run: torchrun --nproc_per_node $NPROC_PER_NODE main.py
  workspace:
    mount_path: /workspace
checkpoint:
  input:
    id: f2a357dc-2029-454d-aa37-73ebdbc5ea43
    mount_path: /ckpt/in
  output_checkpoint_dir: /ckpt/out
data:
  name: glue
  mount_path: /workspace/data
dist:
  dp_degree: 8
  pp_degree: 1
  mp_degree: 1
plugin:
  wandb:
    credential_id: 1
  slack:
    credential_id: two
    channel: general
""".replace("credential_id: 1", "credential_id: one"),
        "job.yml",
    )
    assert spec.experiment == "my-experiment"
    assert isinstance(spec.job_setting.docker.command, DockerCommand)
    assert spec.data[0].mount_path == "/workspace/data"
    assert spec.dist is not None and spec.dist.dp_degree == 8
    assert spec.plugin.slack is not None and spec.plugin.slack.channel == "general"


def test_data_may_be_one_section_or_a_list() -> None:
    one = "data:\n  name: a\n  mount_path: /a\n"
    two = "data:\n  - name: a\n    mount_path: /a\n  - name: b\n    mount_path: /b\n"
    assert [d.name for d in parse_job_text(PLAIN + one, "f").data] == ["a"]
    assert [d.name for d in parse_job_text(PLAIN + two, "f").data] == ["a", "b"]


def test_environment_values_become_the_text_that_was_written() -> None:
    written = ("A: 1", "B: true", "C: 0x10", "D: 1e-3", "E:", "F: 2024-01-01", "G: 'q'", "H: 0.10")
    env = "env:\n" + "".join(f"  {line}\n" for line in written)
    assert parse_job_text(PLAIN + env, "f").env == {
        "A": "1",
        "B": "true",
        "C": "0x10",
        "D": "1e-3",
        "E": "",
        "F": "2024-01-01",
        "G": "q",
        "H": "0.10",
    }
    docker = PLAIN.replace("    command", "    env_var:\n      N: 8\n    command")
    assert parse_job_text(docker, "f").job_setting.docker.env_var == {"N": "8"}


def test_on_is_a_word_and_no_truth_value() -> None:
    spec = parse_job_text(PLAIN + "restart:\n  on: [preempted]\n", "f")
    assert spec.restart.on == ["preempted"]


def test_options_take_the_place_of_what_the_file_says_or_lacks() -> None:
    bare = PLAIN.replace("vm: local-cpu\n", "").replace("num_devices: 2\n", "")
    spec = parse_job_text(bare, "f", vm="local-gpu", num_devices=4)
    assert (spec.vm, spec.num_devices) == ("local-gpu", 4)
    spec = parse_job_text(PLAIN, "f", vm="local-gpu")
    assert (spec.vm, spec.num_devices) == ("local-gpu", 2)


def test_missing_vm_has_a_code_of_its_own() -> None:
    assert _complaint(PLAIN.replace("vm: local-cpu\n", "")).code == "vm_missing"
    assert _complaint(PLAIN.replace("num_devices: 2\n", "")).code == "vm_missing"


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        (
            PLAIN.replace("    command", "    comand"),
            8,
            5,
            "unknown key 'comand' in job_setting.docker; did you mean 'command'?",
        ),
        (PLAIN + "image: x\n", 9, 1, "unknown key 'image'; it belongs in job_setting.docker"),
        (PLAIN + "job_settings:\n", 9, 1, "did you mean 'job_setting'?"),
        (PLAIN + "data:\n  name: d\n  mount: /d\n", 11, 3, "did you mean 'mount_path'?"),
        (PLAIN + "dist:\n  x: 1\n", 10, 3, "known are dp_degree, pp_degree, mp_degree"),
        (PLAIN + "enviroment:\n  A: 1\n", 9, 1, "did you mean 'env'?"),
        (PLAIN.replace("command", "cmd"), 8, 5, "did you mean 'command'?"),
        (PLAIN.replace("num_devices", "gpus"), 3, 1, "did you mean 'num_devices'?"),
        (PLAIN + "workdir: x\n", 9, 1, "'workspace', which belongs in job_setting?"),
        (PLAIN.replace("cifar", "latest"), 1, 7, "may not be 'latest'"),
        (PLAIN.replace("cifar", '"12"'), 1, 7, "only digits, as '12' is"),
        (PLAIN.replace("devices: 2", "devices: two"), 3, 14, "must be a whole number, not 'two'"),
        (PLAIN.replace("devices: 2", "devices: true"), 3, 14, "must be a whole number, not true"),
        (PLAIN.replace("devices: 2", "devices: 0"), 3, 14, "greater than or equal to 1, not 0"),
        (PLAIN.replace("name: cifar", "name: 5"), 1, 7, "name must be text, not 5"),
        (PLAIN.replace("image: friendliai/periflow:sdk", "image: [a]"), 7, 12, "not a list"),
        (PLAIN.replace("    image: friendliai/periflow:sdk\n", ""), 6, 3, "'image' is missing"),
        (
            PLAIN.replace("command: python main.py", "command:\n      setup: x"),
            8,
            5,
            "'run' is missing in job_setting.docker.command",
        ),
        (
            PLAIN.replace("command: python main.py", "command: 5"),
            8,
            14,
            "must be text, or a section with setup and run",
        ),
        (PLAIN + "data: 5\n", 9, 7, "a section or a list of sections"),
        (PLAIN + "data:\n  name: d\n  mount_path: d\n", 11, 15, "must be an absolute path"),
        (PLAIN + "data:\n- name: d\n  mount_path: d\n", 11, 15, "must be an absolute path"),
        (PLAIN + "name: again\n", 9, 1, "key 'name' stands already in line 1"),
        (PLAIN + "env:\n  A: 1\n  A: 2\n", 11, 3, "key 'A' stands already in line 10"),
        (PLAIN + "env:\n  A: [1]\n", 10, 6, "env.A must be text, not a list"),
        (PLAIN.replace("type: custom", "type: custum"), 5, 9, "should be 'custom'"),
        (PLAIN + "restart:\n  on: [preemptd]\n", 10, 8, "'preempted' or 'node-lost'"),
        (PLAIN + "retention: 5\n", 9, 12, "retention must be a section of keys and values"),
        (PLAIN + "retention:\n  keep_last: 0\n", 10, 14, "greater than or equal to 1"),
        (PLAIN + "retention:\n  keep_last: true\n", 10, 14, "a whole number, not true"),
        (PLAIN + "retention:\n  keep_lst: 3\n", 10, 3, "did you mean 'keep_last'?"),
        (PLAIN + "retention:\n  save_total_limit: 3\n", 10, 3, "did you mean 'keep_last'?"),
        (PLAIN + "keep_last: 3\n", 9, 1, "it belongs in retention"),
        (PLAIN + "retention:\n  keep_best: loss\n", 10, 14, "a section of keys and values"),
        (
            PLAIN + "retention:\n  keep_best:\n    monitor: loss\n",
            11,
            5,
            "unknown key 'monitor' in retention.keep_best; did you mean 'metric'?",
        ),
        (
            PLAIN + "retention:\n  keep_best:\n    metric: loss\n",
            10,
            3,
            "'mode' is missing in retention.keep_best",
        ),
        (
            PLAIN + "retention:\n  keep_best: {metric: loss, mode: least}\n",
            10,
            35,
            "'min' or 'max'",
        ),
        (PLAIN + "a: b: c\n", 9, 5, "this is not YAML"),
        (PLAIN + "foo: [\n", 10, 1, "this is not YAML"),
        ("\tname: x\n", 1, 1, "this is not YAML"),
        ("x: !!python/object/apply:os.system [id]\n", 1, 4, "this is not YAML"),
        ("", 1, 1, "it is empty"),
        ("- a\n", 1, 1, "not a section of keys and values"),
        ("a: &a\n  b: *a\n", 1, 1, "a section contains itself"),
    ],
)
def test_complaint_has_its_place_and_the_right_word(text, line, column, words) -> None:
    error = _complaint(text)
    assert words in error.message
    assert (error.data["line"], error.data["column"]) == (line, column)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN.replace("custom", "predefined"), "predefined jobs are not available; use custom"),
    ],
)
def test_what_is_not_built_is_refused_and_not_ignored(text: str, words: str) -> None:
    assert words in _complaint(text).message


def test_streamed_dataset_needs_no_path_and_a_copied_one_does() -> None:
    streamed = "data:\n- {name: d, mode: stream}\n- {name: 'huggingface:imdb', mount_path: /i}\n"
    spec = parse_job_text(PLAIN + streamed, "job.yml")
    assert [(each.mode, each.mount_path) for each in spec.data] == [
        ("stream", None),
        ("copy", "/i"),
    ]
    assert "data.mount_path is missing" in _complaint(PLAIN + "data:\n  name: d\n").message


@pytest.mark.parametrize(
    ("section", "meant"),
    [
        ("", None),
        ("retention:\n", None),
        ("retention: {}\n", "keep_last 5"),
        ("retention: {keep_every: 100}\n", "keep_last 5, keep_every 100"),
        (
            "retention:\n  keep_last: 2\n  keep_best: {metric: acc, mode: max}\n",
            "keep_last 2, keep_best 1 by max acc",
        ),
    ],
)
def test_retention_is_nothing_unless_it_is_asked_for(section: str, meant: str | None) -> None:
    rules = parse_job_text(PLAIN + section, "job.yml").retention
    assert (rules and str(rules)) == meant


def test_two_datasets_at_one_path_are_refused_with_the_place_of_the_second() -> None:
    twice = PLAIN + "data:\n- {name: a, mount_path: /d}\n- {name: b, mount_path: /d/}\n"
    complaint = _complaint(twice)
    assert "two things are to be mounted at /d" in complaint.message
    assert complaint.data["line"] == len(twice.splitlines())
    start = "checkpoint:\n  input: {id: c, mount_path: /d}\ndata: {name: a, mount_path: /d}\n"
    assert "two things" in _complaint(PLAIN + start).message


def test_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"There is no job file .*none\.yml") as caught:
        load_job_file(tmp_path / "none.yml")
    assert "pf job template create" in str(caught.value.hint)


def test_binary_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(JobFileError, match="cannot be read"):
        load_job_file(path)


def test_the_example_of_the_repository_is_read() -> None:
    example = Path(__file__).resolve().parents[2] / "examples/digits/pf-template.yml"
    assert isinstance(load_job_file(example), JobSpec)


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ('"A=B": x', "the variable name 'A=B'"),
        ('"": x', "the variable name ''"),
        ('A: "x\\0y"', "NUL character"),
    ],
)
def test_variables_that_no_process_can_have_are_refused_with_their_place(
    variables: str, complaint: str
) -> None:
    text = (
        "vm: local-cpu\nnum_devices: 1\njob_setting:\n  docker:\n    image: x\n    command: a\n"
        f"env:\n  {variables}\n"
    )
    with pytest.raises(JobFileError) as caught:
        parse_job_text(text, "job.yml")
    assert complaint in caught.value.message and "job.yml:8:3" in caught.value.message


def test_slack_channel_is_told_of_what_its_section_says() -> None:
    section = "plugin:\n  slack:\n    credential: team\n    channel: '#c'\n"
    told = parse_job_text(f"{PLAIN}{section}    on: [failed, running]\n", "job.yml").plugin.slack
    assert told is not None and told.on == ["failed", "running"]
    usual = parse_job_text(f"{PLAIN}{section}", "job.yml").plugin.slack
    assert usual is not None
    assert usual.on == ["success", "failed", "stopped", "preempted", "node-lost"]
    error = _complaint(f"{PLAIN}{section}    on: [failed, crashed]\n")
    assert error.data["line"] == 13 and "crashed" in error.message
