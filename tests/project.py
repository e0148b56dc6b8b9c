"""A small project folder, a copy of this one with a tiny config, driven as a user would: for tests and fault drills."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# a data set and a setting that every small study begins with
DIGITS = """
seed: 0
datasets:
  digits: {train: 60, test: 12}
settings:
  digits_mlp:
    dataset: digits
    model: {kind: mlp, hidden: [8], dropout: 0.1}
    recipe: {learning_rate: 0.05, momentum: 0.9, batch_size: 16, epochs: 4}
"""
TINY = (
    f"{DIGITS}    checkpoints: [2]"
    + """
ground_truth:
  subsets: {count: 6, repeats: 2, fraction: 0.5, block: 3}
  leave_one_out: {examples: 4, repeats: 1, block: 5}
ensembles:
  independent: {count: 2, sizes: [1, 2], block: 1}
methods:
  grad_dot:
  influence: {damping: [0.01, 0.1]}
  trak: {proj_dim: [4, 8], damping: [0.1, 1.0]}
evaluation: {resamples: 100}
"""
)


class Project:
    """A copy of this project in a folder of its own, with a tiny config, driven as a user would."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, config: str = TINY) -> "Project":
        """The project's own files (not its results), with a small config."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in listed:
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        shutil.rmtree(folder / "studies", ignore_errors=True)
        (folder / "config.yaml").write_text(config)
        return cls(folder)

    def copy(self, folder: Path) -> "Project":
        """The same folder, results and all, elsewhere."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def environment(self) -> dict[str, str]:
        """Ours, with the Python that runs the tests first."""
        return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """A command in the folder, with the Python that runs the tests."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=self.environment() | environment, timeout=600
        )
        if check and done.returncode:
            raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def snakemake(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """`snakemake ...` on two cores."""
        return self.run("snakemake", "--cores", "2", *arguments, **options)

    def make(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """`make ...`, with this Python's environment in place of .venv."""
        environment = Path(sys.executable).parent.parent
        return self.run("make", f"VENV={environment}", "-o", f"{environment}/.installed", *arguments, **options)

    def git(self, *arguments: str) -> subprocess.CompletedProcess:
        """`git ...`, as somebody."""
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return self.run("git", *identity, *arguments)

    def planned(self, *arguments: str) -> set[str]:
        """The stems of the jobs that a run would do."""
        text = self.snakemake(*arguments, "--dry-run", "--quiet", "host")
        outputs = [line for line in (text.stdout + text.stderr).splitlines() if line.startswith("    output: ")]
        made = [name for line in outputs for name in line.split(": ", 1)[1].split(", ") if name.endswith(".made.json")]
        return {name.removeprefix("results/").removesuffix(".made.json") for name in made}

    def edit(self, name: str, old: str, new: str):
        """Replace text that must be there in a file."""
        path = self.folder / name
        content = path.read_text()
        assert old in content, f"{old!r} is not in {name}"
        path.write_text(content.replace(old, new))

    def results(self) -> dict[str, bytes]:
        """Every result file but what tells time: file -> content."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted((self.folder / "results").rglob("*"))
            if path.is_file() and not timed(path)
        }


def timed(path: Path) -> bool:
    """Whether a result holds seconds or sums of what holds seconds."""
    return path.name.endswith(".made.json") or path.suffix in (".csv", ".pdf", ".png") or _has_seconds(path)


def _has_seconds(path: Path) -> bool:
    return any(room in path.parts for room in ("ensembles", "scores", "evaluation"))
