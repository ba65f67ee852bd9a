"""What the pages say is true: their examples run, their links lead somewhere, their keys are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_calls import CONFIG, drop, headrace, plane, side
from marked_blocks import CHECKOUT, PAGES, marked, of
from page_user import at_home, runs

from service.cli import COMMANDS
from service.core.resolution import resolve
from service.core.settings import parse

KINDS = {"run", "file", "json", "same", "header"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    """In one folder, in the order of the page; as a user who has the command and a few files."""
    blocks = marked(page)
    assert {block.what for block in blocks} <= KINDS
    at_home(tmp_path)
    for block in blocks:
        if block.what == "file":
            (tmp_path / block.argument).write_text(block.text)
        elif block.what == "run":
            if "headrace-root/models" in block.text and not (tmp_path / "headrace-root").exists():
                _train(tmp_path)
            run = runs(block.text, tmp_path)
            assert run.returncode == 0, f"{block.text}\n{run.stdout}\n{run.stderr}"


def _train(folder: Path) -> None:
    """A root that has been used, where a page needs one."""
    (folder / "used.toml").write_text(CONFIG)
    drop(folder / "headrace-root", "side", "side.csv", side(200))
    run = headrace("run", "-c", folder / "used.toml", "--root", folder / "headrace-root", "--once")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`headrace ([a-z]+)", page.read_text("utf-8")))
    assert named <= set(COMMANDS)


def test_the_readme_names_every_command_and_every_page() -> None:
    text = (CHECKOUT / "README.md").read_text("utf-8")
    for command in COMMANDS:
        assert f"`headrace {command}" in text
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in text


def test_the_readme_names_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.M))
    text = (CHECKOUT / "README.md").read_text("utf-8")
    assert set(re.findall(r"`?make ([a-z]+)", text)) <= targets


def test_the_first_screen_holds_the_two_commands() -> None:
    first = (CHECKOUT / "README.md").read_text("utf-8").splitlines()[:40]
    assert any(line.strip().startswith("make demo") for line in first)
    assert any(line.strip().startswith("make test") for line in first)


def test_the_readmes_settings_are_keys_with_these_defaults() -> None:
    settings = parse(of("README.md", "file")["headrace.toml"], "README.md")
    text = (CHECKOUT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[a-z].*?`) \| (.*?) \|", text, re.M)
    keys = [(key, default) for cell, default in rows for key in re.findall(r"`([a-z_.]+)`", cell)]
    checked = 0
    for key, default in keys:
        if "." not in key or key.startswith("."):
            continue
        value: object = settings
        for part in key.split("."):
            value = getattr(value[0] if isinstance(value, tuple) else value, part)
        if default.startswith("`"):
            assert str(value) == default.strip('`"').lower().replace("true", "True")
            checked += 1
    assert checked >= 4


def test_the_worked_kernel_is_the_file_that_is_tested() -> None:
    (text,) = of("kernels.md", "same").values()
    assert text == (CHECKOUT / "docs" / "quadratic" / "quadratic.py").read_text("utf-8")


def test_the_example_of_a_note_is_what_the_daemon_writes(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    drop(tmp_path / "root", "plane", "plane-1.csv", plane(20))
    drop(tmp_path / "root", "plane", "plane-2.csv", b"a,b,z\n1,x,2\n")
    run = headrace("run", "-c", tmp_path / "c.toml", "--root", tmp_path / "root", "--once")
    assert run.returncode == 0, run.stderr
    note = tmp_path / "root" / "failed" / "plane" / "plane-2.csv.error.json"
    assert note.read_text() == of("operations.md", "json")["note"]


BIKES = (
    "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,"
    "casual,registered,cnt"
)


def test_the_bike_sharing_job_learns_from_the_table_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(of("learning.md", "file")["bike.toml"])
    rows = [
        f"{i},2011-01-01,1,0,1,{i % 24},0,6,0,1,0.2{i},0.3,0.8,0,3,{i},{i + 3}" for i in range(48)
    ]
    (tmp_path / "hour.csv").write_text("\n".join((BIKES, *rows, "")))
    root = tmp_path / "root"
    run = headrace("train", "-c", tmp_path / "c.toml", "--root", root, tmp_path / "hour.csv")
    assert run.returncode == 0, run.stderr


def test_what_parts_of_features_make_of_the_defaults_is_as_the_page_says() -> None:
    text = (CHECKOUT / "docs" / "learning.md").read_text("utf-8")
    said = re.findall(
        r"^\| `((?:optimizer|training|scaling)\.\w+)` \| (.*?) \| (.*?) \|$", text, re.M
    )
    kernels = {"linear": "numbers, ", "logistic": "", "softmax": "", "mlp": "of the MLP "}
    assert len(said) == 5
    for kernel, words in kernels.items():
        model = f'[[jobs]]\nname = "a"\nlabel = "y"\nmodel.kernel = "{kernel}"\n'
        whole, cut = (
            resolve(parse(f'{model}training.partition = "{way}"', "c").jobs[0])
            for way in ("samples", "features")
        )
        for key, alone, parts in said:
            own = re.search(rf"{words}`?(\w+)`?$", alone) if words else None
            first = re.match(r"`?(\w+)`?", alone)
            assert first is not None
            assert _value(whole, key) == (own or first)[1], (kernel, key)
            assert re.match(rf"`?{_value(cut, key)}\b", parts), (kernel, key)


def _value(job: object, key: str) -> str:
    for part in key.split("."):
        job = getattr(job, part)
    return f"{job:g}" if isinstance(job, float) else str(job)
