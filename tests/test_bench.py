"""The benchmark measures what it says, and says when it can't."""
import json
import os

import pytest

from harness import env
from harness.procs import run

pytestmark = pytest.mark.limit(300)
BENCH = env.SOURCE / "tests" / "bench" / "run"


@pytest.fixture
def build(program):
    for name in ("nullfs", "work"):
        if not (program.parent / name).exists():
            pytest.skip(f"no {name} beside the program")
    return program.parent


def bench(build, *args, **kwargs):
    return run(BENCH, "--build", build, "--quick", *args, timeout=250, **kwargs)


def test_quick_benchmark_measures_every_workload_on_every_system(build, tmp_path):
    table = bench(build, "--dir", tmp_path, "--json", tmp_path / "values").stdout
    values = json.loads((tmp_path / "values").read_text())
    workloads = {row["workload"] for row in values}
    assert {"seqread-4k", "randwrite-1m", "create", "stat", "unlink", "readdir", "untar"} <= workloads
    assert len(values) == 3 * len(workloads)
    assert all(row["median"] > 0 for row in values)
    assert all(f"| {name} |" in table for name in workloads)
    assert os.listdir(tmp_path) == ["values"]


def test_benchmark_with_two_callers(build, tmp_path):
    table = bench(build, "--dir", tmp_path, "--callers", "1,2", "--workloads", "randread-4k,create").stdout
    assert "| create x2 |" in table


def test_benchmark_fails_when_a_system_does_not_start(build, tmp_path):
    done = bench(build, "--dir", tmp_path, "--benchfs-option=--no-such-option", check=False)
    assert done.returncode == 1
    assert "no-such-option" in done.stderr
    assert os.listdir(tmp_path) == []


def test_benchmark_fails_when_a_workload_does(build, tmp_path):
    done = run(build / "work", "stat", tmp_path, check=False)
    assert done.returncode == 1
    assert "stat" in done.stderr and "No such file" in done.stderr
