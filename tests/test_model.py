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


def race_of(tmp_path, *programs, tree):
    """Does some order explain what the processes (pairs of operation and result) met?"""
    return model.race_explained(tmp_path, [], [[op for op, _ in p] for p in programs], [[r for _, r in p] for p in programs], tree)


def test_two_creators_of_one_name_fit_no_order(tmp_path):
    create = [0, "create_excl", "a", 0o644]
    world = model.World([tmp_path / "local"])
    (tmp_path / "local").mkdir()
    assert world.do(create) is None
    tree = world.tree(times=False)
    assert race_of(tmp_path, [(create, None)], [(create, "EEXIST")], tree=tree)
    assert not race_of(tmp_path, [(create, None)], [(create, None)], tree=tree)
    assert not race_of(tmp_path, [(create, "EEXIST")], [(create, "EEXIST")], tree=tree)


def test_a_link_of_what_was_just_renamed_fits(tmp_path):
    world = model.World([tmp_path / "local"])
    (tmp_path / "local").mkdir()
    world.do([0, "create_excl", "c", 0o644])
    world.do([0, "link", "c", "b"])
    setup = [[0, "create_excl", "a", 0o644]]
    programs = [[[0, "rename", "a", "c", 0], [0, "rmdir", "b"]], [[1, "link", "a", "b"]]]
    results = [[None, "ENOENT"], [None]]
    assert model.race_explained(tmp_path, setup, programs, results, world.tree(times=False))
    assert not model.race_explained(tmp_path, [], programs, results, world.tree(times=False))


def test_a_difference_is_shrunk_to_what_it_takes():
    ops = list(range(200))
    assert model.shrink(lambda some: 17 in some and 141 in some, ops) == [17, 141]
