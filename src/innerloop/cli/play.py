"""`innerloop play`: an adapted policy in its world, as a moving picture; and `innerloop adapt RUN --env` or `--world`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import given_again, output, program
from innerloop.errors import ConfigError, InputError, expect_whole, first_line
from innerloop.registry import is_place, load

_FRAMES = 2_000  # of a moving picture, at most
_MILLISECONDS = 40  # that a frame of gymnasium's is shown


def play(argv: Sequence[str]) -> int:
    return program.run("play", _play, argv)


def _play(
    agent: Path,
    /,
    *,
    video: Path,
    episodes: int = 3,
    env: str | None = None,
    before: bool = True,
    seed: int = 0,
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
    json: bool = False,
) -> int:
    """Let an adapted policy play, write it as a moving picture, and print its returns.

    Args:
        agent: a file of `innerloop adapt RUN --world N` (or --env, or `agent.save`).
        video: the .gif to write.
        episodes: how many are shown.
        env: package.module:make_env, for a gymnasium environment, whose frames are those of render_mode="rgb_array"; left out:
            the world of ours that the policy was adapted to.
        before: show an episode of the policy before it adapted, first (not with --env).
        seed: of what happens.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing file.
        json: print one JSON object and nothing else.
    """
    if not agent.is_file():
        raise InputError(
            f"expected an agent's file, got nothing at {str(agent)!r}; make one: innerloop adapt RUN --world 0 --out"
        )
    if video.suffix.lower() != ".gif":
        raise ConfigError(f"--video expected a .gif, got {str(video)!r}; give out.gif, say")
    expect_whole("--episodes", episodes)
    output.new_file(video, force, "--video")
    from innerloop import load as opened
    from innerloop.meta_learner.agent import Agent
    from innerloop.report.world_pictures import write_gif

    found = opened(agent, **given_again.checked(agent, algorithm=algorithm, tasks=tasks, model=model))
    if not isinstance(found, Agent):
        raise InputError(f"expected the file of a policy that was adapted to a world, got another at {str(agent)!r}")
    pictures, returns = _of_gymnasium(found, env, episodes, seed) if env else _of_ours(found, episodes, seed, before)
    pictures = pictures[:_FRAMES]
    with output.writing(video):
        video.parent.mkdir(parents=True, exist_ok=True)
        write_gif(pictures, video)
    mean = sum(returns) / len(returns)
    if json:
        output.print_json({"video": str(video), "frames": len(pictures), "returns": returns, "mean": mean})
        return 0
    print(f"returns: {', '.join(f'{value:.2f}' for value in returns)} (mean {mean:.2f})")
    print(f"video: {video} ({len(pictures)} frames)")
    return 0


def _of_ours(agent: Any, episodes: int, seed: int, before: bool) -> tuple[list[Any], list[float]]:
    from innerloop.report.world_pictures import frames

    world = agent.support
    if world is None:
        raise InputError(
            "expected an agent whose file holds its world, one of ours, got none; for a gymnasium environment give --env "
            "package.module:make_env"
        )
    played = agent.play(world, episodes, seed)
    pictures = frames(world, played, [f"episode {i + 1}" for i in range(episodes)])
    if before and agent.steps:
        first = agent.owner.adapt(world, steps=0, objective=agent.objective).play(world, 1, seed)
        pictures = frames(world, first, ["before adapting"]) + pictures
    return pictures, [float(v) for v in played.returns().flatten()]


def _of_gymnasium(agent: Any, env: str, episodes: int, seed: int) -> tuple[list[Any], list[float]]:
    import numpy as np
    from PIL import Image

    made = environment(env)
    world: Any = made() if callable(made) and not hasattr(made, "step") else made
    agent.policy_expects(world)
    pictures: list[Any] = []
    returns: list[float] = []
    try:
        for episode in range(episodes):
            seen, _ = world.reset(seed=seed + episode)
            reward, over, total = 0.0, False, 0.0
            for _step in range(agent.objective.horizon):
                frame = world.render()
                if frame is None or np.ndim(frame) != 3:
                    raise InputError(
                        f'{env} expected an environment made with render_mode="rgb_array", whose frames are pictures, got '
                        f"{type(frame).__name__} from render()"
                    )
                pictures.append((Image.fromarray(np.asarray(frame, np.uint8)), _MILLISECONDS))
                action = agent.act(np.asarray(seen, dtype=float).reshape(-1), reward, over)
                seen, reward, ended, cut, _ = world.step(action)
                total += float(reward)
                over = bool(ended or cut)
                if over:
                    break
            returns.append(total)
    except (InputError, ConfigError):
        raise
    except Exception as error:  # somebody's environment may fail in any way
        raise InputError(f"{env} failed while it was played: {first_line(error, kind=True)}") from error
    finally:
        world.close()
    return pictures, returns


def environment(word: str) -> Any:
    """What makes somebody's environment, imported since the user typed it."""
    if not is_place(word):
        raise ConfigError(
            f"--env expected package.module:make_env, got {word!r}; a function that gives a gymnasium environment"
        )
    return load("environment", {}, word, typed=True)


def adapt_to_world(
    run: Path,
    *,
    env: str | None,
    world: int | None,
    episodes: int | None,
    steps: int | None,
    out: Path | None,
    device: str,
    again: Mapping[str, str],
    force: bool,
    json: bool,
) -> int:
    """`innerloop adapt` where what is adapted to is a world; arguments as there."""
    if out is None:
        raise ConfigError("expected --out, the agent's file to write, got none; give --out robot.il, say")
    if env is not None and world is not None:
        raise ConfigError("expected --env or --world, got both; leave one out")
    output.new_file(out, force)
    made = None if env is None else environment(env)
    if world is not None:
        expect_whole("--world", world, 0)
    from innerloop import load as opened
    from innerloop.assemble import problem_of
    from innerloop.engine import take
    from innerloop.objectives.world import World
    from innerloop.training.placement import device_of
    from innerloop.training.run_config import read_run_config

    learner: Any = opened(run, **again)
    learner.to(device_of(device))
    if made is None:
        assert world is not None
        family = problem_of(read_run_config(run), run, again.get("tasks"))
        made = take(family.test.at(0, 0, 1, start=world).support, 0)
        if not isinstance(made, World):
            raise InputError(f"--world expected a run in worlds, got one on {family.name}; give examples instead")
    agent = learner.adapt(made, steps=steps, episodes=episodes)
    before = learner.adapt(made, steps=0).score(made)
    after = agent.score(made)
    with output.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        agent.save(out)
    played = agent.objective.trials
    if json:
        output.print_json(
            {"agent": str(out), "steps": agent.steps, "before": before, "after": after, "episodes": played}
        )
        return 0
    print(
        f"adapted in {agent.steps} inner steps; mean return of {played} new episodes {before:.3f} before, {after:.3f} after"
    )
    print(f"agent: {out}")
    print(f"next: innerloop play {shlex.quote(str(out))}{'' if env is None else f' --env {env}'} --video out.gif")
    return 0
