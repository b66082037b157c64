"""Pictures of worlds: what is drawn is what was played."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import _pytree as pytree

import innerloop as il
from innerloop.errors import ConfigError
from innerloop.objectives.rollouts import roll_out, uniform_policy
from innerloop.objectives.world import one_of
from innerloop.report.world_pictures import frames, paths, write_gif


def played_in(name, episodes=2, **options):
    family = getattr(il.worlds, name)(**options)
    world = pytree.tree_map(lambda v: v[0], family.test.at(0, 0, 1).support)
    worlds = one_of(world, episodes)
    return world, roll_out(worlds, uniform_policy(worlds.actions), (), torch.arange(episodes))[0]


@pytest.mark.parametrize("name", ["navigation", "cartpole", "pendulum"])
def test_a_moving_picture_has_a_frame_for_each_step_that_was_played(name, tmp_path):
    world, played = played_in(name, steps=9)
    pictures = frames(world, played, ["one", "two"])
    assert len(pictures) == int(played.playing.sum())
    write_gif(pictures, tmp_path / "out.gif")
    with Image.open(tmp_path / "out.gif") as moving:
        assert moving.is_animated and moving.n_frames > 1
        assert moving.info["duration"] == 60
    first, second = (np.asarray(picture) for picture, _ in pictures[:2])
    assert (first != second).any()
    assert pictures[int(played.playing[0].sum()) - 1][1] == 900  # the last of an episode stays


def test_a_point_is_drawn_where_it_is():
    world, played = played_in("navigation", steps=3)
    picture = np.asarray(frames(world, played, ["", ""])[2][0]).astype(int)
    blue = np.argwhere(np.abs(picture - (30, 100, 180)).sum(-1) < 10)
    x, y = played.observations[0, 2].tolist()
    inner = 320 - 48
    at = (24 + (1 - (y / 0.7 + 1) / 2) * inner, 24 + (x / 0.7 + 1) / 2 * inner)
    assert np.abs(blue - at).max() < 60  # all of its path is near
    assert (np.abs(blue - at).max(-1) < 3).any()


def test_what_cannot_be_drawn_is_said():
    world, played = played_in("bandits", arms=3, pulls=4)
    with pytest.raises(ConfigError, match="a world that can be drawn"):
        frames(world, played, ["", ""])
    with pytest.raises(ConfigError, match="navigation"):
        paths(world, played, played)


def test_paths_are_those_of_the_episodes():
    world, played = played_in("navigation", episodes=3, steps=5)
    figure = paths(world, played, played)
    lines = figure.axes[0].lines
    assert len(lines) == 4  # three paths and the goal
    np.testing.assert_allclose(np.stack(lines[0].get_data(), 1), played.observations[0][played.playing[0]].numpy())
    assert lines[-1].get_data()[0][0] == pytest.approx(float(world.goal[0]))
