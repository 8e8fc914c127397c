"""Random operations have the results that they have on a local file system.
What differs is printed as a seed and a short list that can be replayed: see
harness/model.py, also for runs by hand."""
import pytest

from harness import env, model

SECONDS = env.size(0, 200)


def check(failure):
    if failure:
        pytest.fail(str(failure), pytrace=False)


@pytest.fixture
def mounts(tree):
    """The test's directory through every mount."""
    return tree.roots


@pytest.mark.configs("one", "tcp3", "shm3", "client")
@pytest.mark.parametrize("seed", [1, 2])
def test_one_process_that_uses_the_mounts_in_turn_sees_what_it_would_see_locally(mounts, tmp_path, seed):
    check(model.walk(mounts, tmp_path, seed, env.size(400, 4000, sanitized=150)))


@pytest.mark.configs("one", "tcp3", "shm3")
def test_three_processes_at_work_at_once_each_see_what_they_would_see_locally(mounts, tmp_path):
    check(model.walk_together(mounts, tmp_path, [11, 12, 13], env.size(300, 3000, sanitized=100), timeout=env.size(50, 900)))


@pytest.mark.configs("one", "tcp3", "netns3")
def test_what_three_processes_do_at_once_in_one_directory_fits_some_order(mounts, tmp_path):
    check(model.race(mounts, tmp_path, 21, env.size(80, 1000, sanitized=30), timeout=env.size(50, 900)))


@pytest.mark.soak
@pytest.mark.skipif(not env.SOAK, reason="takes ten minutes: part of tests/soak/run")
@pytest.mark.configs("tcp3", "shm3", "client")
def test_ten_minutes_of_everything_show_no_difference(mounts, tmp_path):
    check(model.search(mounts, tmp_path, 1000, SECONDS))
