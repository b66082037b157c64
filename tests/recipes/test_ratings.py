"""MovieLens' recipe on made-up ratings: the baseline by hand, and nothing of a test user in what is known of the films."""

import zipfile

import numpy as np
import pytest

from innerloop.recipes import ratings
from innerloop.tasks.tables.own import table_family


@pytest.fixture
def movielens(tmp_path, monkeypatch):
    """60 users rate 25 of 40 films: a film's level + a user's + noise, in half stars."""
    rng = np.random.default_rng(0)
    level, lines = rng.normal(size=40), ["userId,movieId,rating,timestamp"]
    for user in range(60):
        mine = rng.normal() / 2
        for film in rng.permutation(40)[:25]:
            stars = np.clip(np.round(2 * (3 + level[film] + mine + rng.normal() / 5)) / 2, 0.5, 5)
            lines.append(f"{user},{film},{stars},{rng.integers(10**9)}")
    folder = tmp_path / "movielens"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ml-latest-small.zip", "w") as archive:
        archive.writestr("ml-latest-small/ratings.csv", "\n".join(lines))
        archive.writestr("ml-latest-small/tags.csv", "userId,movieId,tag\n1,2,fun\n1,3,dull")
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))


def family():
    return table_family(
        ratings._path(),
        only=["*ratings"],
        target="rating",
        task_column="userId",
        item_column="movieId",
        ignore=["timestamp"],
        support_size=10,
        train_queries=2,
    )


def test_the_bias_baseline_by_hand(movielens):
    tasks = family()
    known = ratings.ratings_of(tasks.train)
    assert len(known.stars) == 25 * tasks.train.size  # all of the training users', and of nobody else
    level = known.stars.mean()
    (batch,) = ratings.drawn(tasks.valid)[:1]
    stars = [side.y[0, :, 0].double().numpy() * tasks.train.record.target_std[0] + tasks.train.record.target_mean[0]
             for side in (batch.support, batch.query)]  # fmt: skip
    films = [side.x[0, :, 0].long().numpy() for side in (batch.support, batch.query)]
    assert len(stars[0]) == 10 and sorted([*films[0], *films[1]]) == sorted({*films[0], *films[1]})
    bias = {
        f: (known.stars[known.films == f] - level).sum() / ((known.films == f).sum() + 4) for f in range(known.size)
    }
    user = sum(s - level - bias[f] for s, f in zip(stars[0], films[0], strict=True)) / (10 + 2)
    by_hand = [abs(np.clip(level + bias[f] + user, 0.5, 5) - s) for s, f in zip(stars[1], films[1], strict=True)]
    errors = ratings._error(
        np.array([[level + bias[f] + user for f in films[1]]] * len(batch.query.y)), batch, tasks.valid
    )
    assert errors[0] == pytest.approx(np.mean(by_hand), abs=1e-5)
    assert ratings.film_means(known, 4.0)[3] == pytest.approx(bias[3])


def test_rows_stand_beside_their_baselines(movielens, monkeypatch):
    monkeypatch.setattr(ratings, "_TEST_USERS", 100)
    rows = {row["metric"].partition(": ")[2]: row for row in ratings.run(steps=8)}
    ours, bias, mean, everyone = list(rows)[:4]
    assert ours == "r2d2 on items with a learned prior" and bias.startswith("item bias + shrunk user mean")
    assert rows[ours]["value"] < rows[mean]["value"] and rows[bias]["value"] < rows[everyone]["value"]
    lead = rows[f"{ours} less {bias}"]
    assert lead["value"] == pytest.approx(rows[ours]["value"] - rows[bias]["value"], abs=2e-4)
    assert lead["num_tasks"] == rows[ours]["num_tasks"] and rows[ours]["steps"] == 8 and rows[bias]["steps"] == 0
