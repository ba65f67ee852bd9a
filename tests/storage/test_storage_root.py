"""The root: made, proved, held by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.errors import ConfigurationError, RootBusy
from service.core.layout import Layout
from service.storage.root import RootLock, prepare_root

HOLDER = """
import sys, time
from pathlib import Path
from service.storage.root import RootLock
RootLock(Path("state")).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_every_folder_is_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "deep" / "root")
    prepare_root(layout, ["a", "b"])
    prepare_root(layout, ["a", "b"])
    assert all(folder.is_dir() for job in "ab" for folder in layout.folders(job))
    assert not [path for path in layout.root.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("folder", ["work", "done", "inbox/j", "state"])
def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path: Path, folder: str) -> None:
    path = tmp_path / "root" / folder
    path.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="must be a directory and not a link"):
        prepare_root(Layout(tmp_path / "root"), ["j"])


def test_a_root_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    prepare_root(Layout(tmp_path / "root"), ["j"])
    assert (tmp_path / "real/inbox/j").is_dir()


def test_a_folder_on_another_file_system_is_refused(tmp_path: Path) -> None:
    """A bind mount: the same device, and yet no rename crosses it."""
    script = (
        "mkdir -p root/done elsewhere && mount --bind elsewhere root/done && "
        f"exec {sys.executable} -c '"
        "from pathlib import Path\n"
        "from service.core.layout import Layout\n"
        "from service.storage.root import prepare_root\n"
        'prepare_root(Layout(Path("root")), ["j"])\''
    )
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ConfigurationError" not in done.stderr and (
        "permitted" in done.stderr or "denied" in done.stderr
    ):
        pytest.skip("mounting is not allowed here")
    assert "root/done/j: must be on the same file system as root/work/j, got another" in done.stderr


def test_the_second_holder_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RootBusy, match=f"got pid {holder.pid} holding it"):
            RootLock(tmp_path / "state").acquire()
        holder.kill()
    with RootLock(tmp_path / "state"):
        pass


def test_a_lock_is_free_after_release_and_keeps_its_file(tmp_path: Path) -> None:
    lock = RootLock(tmp_path / "state")
    for _ in range(2):
        lock.acquire()
        with pytest.raises(RootBusy, match=f"pid {os.getpid()}"):
            RootLock(tmp_path / "state").acquire()
        lock.release()
    assert (tmp_path / "state/lock").read_text() == f"{os.getpid()}\n"
