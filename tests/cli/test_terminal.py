"""`pf` on a terminal: prompts, panels, bars, Ctrl-C."""

from __future__ import annotations

import re

import pexpect
import pytest
from tutorial import tutorial_panels

PASSWORD = "correct horse battery"


def _screen(terminal: pexpect.spawn[str]) -> str:
    """All that is printed until the end, without escape codes."""
    terminal.expect(pexpect.EOF)
    terminal.wait()
    return _plain(str(terminal.before))


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")


@pytest.fixture(scope="module")
def cifar(settled) -> str:
    """The tutorial's dataset, full size, of holes."""
    folder = settled.folder / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, size in (("meta", 1500), ("test", 31_000_000), ("train", 155_200_000)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    settled.pf("dataset", "upload", "-n", "my-cifar-100", "-p", "./cifar100/")
    return "my-cifar-100"


@pytest.mark.parametrize("columns", [66, 120])
def test_dataset_view_is_the_tutorial_s(settled, cifar: str, columns: int) -> None:
    screen = _screen(settled.on_terminal("dataset", "view", cifar, columns=columns))
    panels, hint, rest = screen.partition("Hint: ")
    assert panels == tutorial_panels("my-cifar-100")
    assert hint and rest.startswith("186.2 MB in 3 files; ") and rest.count("\n") == 1


def test_panels_fit_a_narrow_terminal(settled, cifar: str) -> None:
    screen = _screen(settled.on_terminal("dataset", "view", "-q", cifar, columns=40))
    assert max(len(line) for line in screen.splitlines()) <= 40


def test_no_color_and_columns_are_obeyed(settled, cifar: str) -> None:
    terminal = settled.on_terminal("dataset", "list", NO_COLOR="1", COLUMNS="50")
    terminal.expect(pexpect.EOF)
    raw = str(terminal.before)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", raw)
    assert max(len(line) for line in _plain(raw).splitlines()) <= 50


def test_signup_asks_for_what_is_missing(shell) -> None:
    terminal = shell.on_terminal("signup")
    for question, answer in (
        ("Username: ", "grace"),
        ("Name: ", "Grace Hopper"),
        ("Email: ", "grace@@example"),
        ("grace@@example is not an email address.\r\nEmail: ", "grace@example.com"),
        ("Password: ", "short"),
        ("A password has at least 8 characters.\r\nPassword: ", PASSWORD),
        ("Repeat it: ", PASSWORD),
    ):
        terminal.expect_exact(question)
        terminal.sendline(answer)
    screen = _screen(terminal)
    assert "Your sign-up code is" in screen and "logged in as grace" in screen
    assert PASSWORD not in screen
    shell.pf("logout")
    login = shell.on_terminal("login")
    login.expect_exact("Username: ")
    login.sendline("grace")
    login.expect_exact("Password: ")
    login.sendline(PASSWORD)
    assert "Logged in as grace" in _screen(login)


def test_no_input_never_asks(shell) -> None:
    terminal = shell.on_terminal("login", PERIFLOW_NO_INPUT="1")
    assert "--username" in _screen(terminal)
    assert terminal.exitstatus == 2


def test_delete_asks_and_no_keeps_it(settled, cifar: str) -> None:
    terminal = settled.on_terminal("dataset", "delete", cifar)
    terminal.expect_exact(f"Delete {cifar}? [y/N]: ")
    terminal.sendline("n")
    assert "Nothing was changed." in _screen(terminal)
    assert terminal.exitstatus == 1
    assert settled.json("dataset", "view", cifar)["active"] is True


def test_ctrl_c_in_a_followed_log_leaves_the_job_alone_and_says_so(settled) -> None:
    number = settled.run_job("echo up; sleep 1000")
    terminal = settled.on_terminal("job", "log", "-f", number)
    terminal.expect_exact("up")
    terminal.sendintr()
    screen = _screen(terminal)
    assert f"Job {number} goes on" in screen and f"pf job stop {number}" in screen
    assert terminal.exitstatus == 130
    assert settled.json("job", "view", number)["status"] == "running"
    settled.pf("job", "stop", number, "-y")


def test_ctrl_c_in_an_upload_prints_the_line_that_goes_on(settled) -> None:
    folder = settled.folder / "large data"
    folder.mkdir()
    for number in range(40):
        with (folder / f"{number}.bin").open("wb") as file:
            file.write(number.to_bytes(4, "little") * 4_000_000)
    terminal = settled.on_terminal("dataset", "upload", "-n", "large", "-p", "large data/")
    terminal.expect(r"\d+ ?%|[0-9.]+/[0-9.]+ [GM]B|Uploading .*━")
    terminal.sendintr()
    screen = _screen(terminal)
    assert terminal.exitstatus == 130
    assert "pf dataset upload -n large -p 'large data/'" in screen
    assert settled.run("dataset", "view", "large").returncode == 3


def test_log_cannot_take_over_the_terminal(settled) -> None:
    # A title, a cleared screen, a bell and a torn escape; then a colour, which stays.
    number = settled.run_job(r"printf '\033]0;mine\007\033[2Ja\007\033[31mb\033[0m\033'; exit 1")
    settled.wait_for_job(number)
    terminal = settled.on_terminal("job", "log", number)
    terminal.expect(pexpect.EOF)
    assert str(terminal.before).startswith("a\x1b[31mb\x1b[0m\r\n")
    assert "\x1b]0;mine" in settled.pf("job", "log", number)
    view = settled.on_terminal("job", "view", number)
    view.expect(pexpect.EOF)
    assert "\x1b]0" not in str(view.before) and "ab" in str(view.before)


def test_job_view_has_panels_and_tables(settled) -> None:
    number = settled.run_job("echo the last words; exit 4")
    settled.wait_for_job(number)
    screen = _screen(settled.on_terminal("job", "view", number))
    for title in (" Overview ", "Attempts", "Events", "Checkpoints", " Last lines of the log "):
        assert title in screen
    assert "exited with code 4" in screen and "the last words" in screen


def test_plot_fits_the_terminal(settled) -> None:
    folder = settled.folder / "plotted"
    folder.mkdir()
    (folder / "main.py").write_text(
        "import periflow_sdk as pf\npf.init()\n"
        "for i in range(50):\n    with pf.train_step():\n        pf.metric({'loss': 50 - i})\n"
    )
    file = settled.write_job("plot.yml", "python /workspace/plotted/main.py")
    settled.pf("job", "run", "-f", file, "-d", folder, "--wait")
    screen = _screen(settled.on_terminal("job", "metrics", "plot", "latest", columns=70))
    chart = screen.split("Hint:")[0]
    assert "(loss)" in chart and re.search("[\u2801-\u28ff]", chart)
    assert max(len(line) for line in chart.splitlines()) <= 70
