"""Pull, push and share between clones, and keep the log of a failed experiment."""

from pathlib import Path

from tests import ROOT
from tests.stages.repository import Repository

README = (ROOT / "README.md").read_text()


def test_a_plain_pull_in_a_fresh_clone(reproduced: Repository, tmp_path: Path) -> None:
    """Outs that nobody pushed are missing. The embedded data arrives."""
    clone = reproduced.clone(tmp_path / "clone")
    plain = clone.try_run("dvc", "pull")
    assert plain.returncode != 0
    assert "missing-files" in plain.stderr
    assert (clone.root / "data" / "sr.csv.gz").exists()


def test_an_experiment_from_before_the_remote_is_pushed_with_its_model(
    repository: Repository, tmp_path: Path
) -> None:
    """A remote in the local config applies to every revision."""
    setting = ["-S", "evaluate.mistakes=2", "evaluate"]
    repository.run("dvc", "exp", "run", "--temp", "--name", "mine", *setting)
    hub = tmp_path / "hub.git"
    repository.run("git", "clone", "-q", "--bare", str(repository.root), str(hub))
    repository.run("git", "remote", "set-url", "origin", str(hub))
    add = ["dvc", "remote", "add", "--local", "--default", "mine", str(tmp_path / "remote")]
    assert " ".join(add[:-1]) + " URL" in README
    repository.run(*add)
    repository.run("dvc", "exp", "push", "origin", "mine")

    clone = Repository(tmp_path / "clone")
    repository.run("git", "clone", "-q", str(hub), str(clone.root))
    clone.run(*add)
    there = "dvc pull data.dvc && dvc exp pull origin NAME && dvc exp apply NAME"
    assert f"`{there}`" in README
    clone.run("sh", "-c", there.replace("NAME", "mine"))
    model = Path("models", "model.safetensors")
    assert (clone.root / model).read_bytes() == (repository.root / model).read_bytes()
    assert (clone.root / "evaluation").is_dir()


def test_the_log_of_a_failed_experiment_is_kept(repository: Repository) -> None:
    """DVC removes the temporary workspace, so the log is kept in the repository."""
    setting = "transform.missing_threshold=0"
    done = repository.try_run("dvc", "exp", "run", "--temp", "--name", "strict", "-S", setting)
    assert done.returncode != 0
    [said] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "transform.missing_threshold" in said
    log = repository.root / "logs" / "strict" / "transform.log"
    assert log.read_text().splitlines()[-1] == said
