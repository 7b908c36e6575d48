"""A DVC repository with a tiny bucket, and a user's commands in it."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import yaml

# Settings for a quick pipeline. Few requests make a failure a large share.
TINY: dict[str, object] = {
    "threads": 1,
    "backbones.convnext_tiny.architecture": "test_convnext.r160_in1k",
    "transform.error_threshold": 0.5,
    "transform.missing_threshold": 0.5,
    "split.valid": 0.3,
    "split.test": 0.3,
    "train.image_size": 64,
    "train.head_epochs": 1,
    "train.epochs": 1,
    "train.tta": False,
    "evaluate.bootstrap": 20,
    "evaluate.mistakes": 1,
}

# Undo everything since the commit, like in docs/experiments.md.
BACK = "git reset -q --hard && git clean -fdq metrics reports && dvc checkout"


def environment() -> dict[str, str]:
    """The environment of the tests, with the commands of this Python first in PATH."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": commands}


class Repository:
    """A DVC repository, and a user's commands in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def try_run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env=environment() | variables, text=True, capture_output=True,
            check=False,
        )  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in its own process group, as a shell does."""
        return subprocess.Popen(
            command, cwd=self.root, env=environment(), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # Tests in a shell's background ignore SIGINT, and so would their children.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def run(self, *command: str) -> str:
        done = self.try_run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def copy(self, root: Path) -> "Repository":
        shutil.copytree(self.root, root, symlinks=True)
        return Repository(root)

    def clone(self, root: Path) -> "Repository":
        self.run("git", "clone", "-q", str(self.root), str(root))
        return Repository(root)

    def files(self, *folders: str) -> dict[str, bytes]:
        """Return the files in folders, with their bytes."""
        found = sorted(p for folder in folders for p in (self.root / folder).rglob("*.*"))
        return {str(p.relative_to(self.root)): p.read_bytes() for p in found if p.is_file()}

    def set_params(self, values: dict[str, object]) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in values.items():
            section = params
            *names, last = key.split(".")
            for name in names:
                section = section[name]
            assert last in section, key
            section[last] = value
        # DVC writes null as an empty value.
        path.write_text(yaml.safe_dump(params, sort_keys=False).replace(": null\n", ":\n"))
