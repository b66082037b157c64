"""MovieLens' recipes on made-up ratings: baselines by hand, what a window shows, and that new films are new."""

import csv
import zipfile

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.recipes import rating_baselines as simple
from innerloop.recipes import rating_settings, ratings


@pytest.fixture
def movielens(tmp_path, monkeypatch):
    """60 users rate 25 of 40 films: a film's level + a user's + noise, in half stars."""
    rng = np.random.default_rng(0)
    level, lines = rng.normal(size=40), ["userId,movieId,rating,timestamp"]
    for user in range(60):
        mine = rng.normal() / 2
        for film in rng.permutation(40)[:25]:
            stars = np.clip(np.round(2 * (3 + level[film] + mine + rng.normal() / 5)) / 2, 0.5, 5)
            lines.append(f"{user},{film},{stars},{10**9 + rng.integers(10**8)}")
    genres = ["Action|Comedy", "War", "Action", "Comedy|War"]
    films = [f"{film},Film {film} ({1970 + film}),{genres[film % 4]}" for film in range(40)]
    folder = tmp_path / "movielens"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ml-latest-small.zip", "w") as archive:
        archive.writestr("ml-latest-small/ratings.csv", "\n".join(lines))
        archive.writestr("ml-latest-small/movies.csv", "\n".join(["movieId,title,genres", *films]))
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    monkeypatch.setattr(ratings, "_TEST_USERS", 100)


@pytest.fixture
def family(movielens):
    with ratings.files() as folder:
        yield ratings.family_of(folder)


def test_the_bias_baseline_by_hand(family):
    known = simple.Known.of(family.train)
    assert len(known.stars) == 25 * family.train.size  # all of the training users', and of nobody else
    batch = ratings.drawn(family.valid)[0]
    films = [side.x[0, :, 0].long().numpy() for side in (batch.support, batch.query)]
    assert len(films[0]) == 10 and len({*films[0], *films[1]}) == 25
    level = known.stars.mean()
    bias = {
        f: (known.stars[known.films == f] - level).sum() / ((known.films == f).sum() + 4) for f in range(known.size)
    }
    stars = batch.support.y[0, :, 0].double().numpy()
    user = sum(s - level - bias[f] for s, f in zip(stars, films[0], strict=True)) / (10 + 2)
    found = simple.bias(known, 4.0, 2.0)(batch)[0]
    assert found.tolist() == pytest.approx([level + bias[f] + user for f in films[1]], abs=1e-6)
    record = family.valid.record
    truth = batch.query.y[0, :, 0].double().numpy() * record.target_std[0] + record.target_mean[0]
    cut = (found * record.target_std[0] + record.target_mean[0]).clip(0.5, 5)
    judged = ratings.judged(simple.bias(known, 4.0, 2.0), [batch], family.valid)
    assert judged["mae"][0] == pytest.approx(np.abs(cut - truth).mean(), abs=1e-5)
    assert judged["rmse"][0] == pytest.approx(np.sqrt(np.square(cut - truth).mean()), abs=1e-5)


def test_factors_and_ridge_minimise_what_they_say(family):
    known = simple.Known.of(family.train)
    found = simple.factors(known, 5.0)
    batch = ratings.drawn(family.valid)[0]
    films, stars = batch.support.x[0, :, 0].long().numpy(), batch.support.y[0, :, 0].double().numpy()
    z = np.concatenate([np.ones((10, 1)), found.vectors[films]], 1)
    left = stars - found.level - found.films[films]
    weights = np.linalg.solve(z.T @ z + np.diag([2.0, *[10.0] * 8]), z.T @ left)
    asked = batch.query.x[0, :, 0].long().numpy()
    wanted = found.level + found.films[asked] + weights[0] + found.vectors[asked] @ weights[1:]
    assert simple.ridge_on(found, 2.0, 2.0)(batch)[0].tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_what_is_chosen_has_the_least_error_there(family):
    known, valid = simple.Known.of(family.train), ratings.drawn(family.valid, 1)
    found = simple.chosen(known, lambda p: ratings.mae(p, valid, family.valid))
    assert [name.split(" (")[0] for name in found] == [
        simple.BIAS,
        "ALS with 8 factors + ridge",
        "the mean of the shown ratings",
        "the mean of all training ratings",
    ]
    best = ratings.mae(next(iter(found.values())), valid, family.valid)
    assert best <= min(
        ratings.mae(simple.bias(known, a, b), valid, family.valid) for a in (0.5, 4, 16) for b in (0.5, 2, 16)
    )


def test_rows_stand_beside_their_baselines(movielens):
    found = ratings.run(steps=8)
    rows = {row["metric"]: row for row in found}
    assert len(rows) == len(found) == 3 * (7 + 6)
    setting = "10 ratings of a new user: "
    base = next(m for m in rows if m.startswith(f"mae in stars, {setting}{simple.BIAS} ("))
    for name in ratings.LEARNERS:
        own = rows[f"mae in stars, {setting}{name}"]
        (lead,) = (rows[m] for m in rows if m.startswith(f"mae in stars, {setting}{name} less"))
        assert lead["value"] == pytest.approx(own["value"] - rows[base]["value"], abs=2e-4)
        verdict = "level with it" if abs(lead["value"]) <= lead["ci95"] else "better" if lead["value"] < 0 else "worse"
        assert lead["metric"].endswith(f"({verdict})") and own["steps"] == 8
    assert rows[base]["value"] < rows[f"mae in stars, {setting}the mean of all training ratings"]["value"]


def test_training_knows_nothing_of_new_films(movielens, monkeypatch):
    seen = {}
    trained = ratings.trained

    def watched(family, *args):
        seen["items"] = family.train.record.columns[0].items
        said = family.train.record.columns[0].facts
        seen["said"] = dict(zip(said.items, said.values, strict=True))
        return trained(family, *args)

    monkeypatch.setattr(ratings, "trained", watched)
    monkeypatch.setattr(ratings, "LEARNERS", {"r2d2": ratings.LEARNERS["r2d2"]})
    rows = rating_settings.new_films(steps=4)
    new = [str(film) for film in range(40) if rating_settings._is_new(str(film))]
    assert 2 < len(new) < 20 and not set(new) & set(seen["items"])
    assert all(seen["said"][film][-3:] == (0.0, 0.0, 0.0) and seen["said"][film][0] is not None for film in new)
    assert {row["metric"].split(": ")[0].split(" of ")[1] for row in rows if row["metric"].startswith("mae")} == {
        "a known user, new films",
        "a new user, new films",
        "a new user, known films",
    }


def test_new_films_are_asked_about_by_those_who_rated_them(family):
    with ratings.files() as folder:
        whole = rating_settings.read_table(folder / "ratings.csv")
        rows = list(csv.DictReader((folder / "ratings.csv").open()))
    batch = rating_settings.about_new(whole, family.test)[0]
    users = [
        u
        for u in family.test.task_names
        if any(r["userId"] == u and rating_settings._is_new(r["movieId"]) for r in rows)
    ]
    record = family.test.record
    for i, user in enumerate(users):
        stars = batch.query.y[i, batch.query.mask[i], 0].double().numpy() * record.target_std[0] + record.target_mean[0]
        wanted = [float(r["rating"]) for r in rows if r["userId"] == user and rating_settings._is_new(r["movieId"])]
        assert sorted(stars.tolist()) == pytest.approx(sorted(wanted), abs=1e-5)


def test_a_stream_shows_what_came_before_and_nothing_else(movielens, monkeypatch):
    monkeypatch.setattr(rating_settings, "_LONG", 20)
    with ratings.files() as folder:
        family = ratings.family_of(folder, order_by="timestamp")
    users = rating_settings.streams(family.test)
    assert len(users) == family.test.size and all(len(own.y) == 25 for own in users)
    shown = []

    def last_shown(batch):
        """Predicts the last rating that is shown; keeps how many were."""
        shown.extend(batch.support.mask.sum(1).tolist())
        return batch.support.y[:, -1:, 0].double().numpy()

    record = family.test.record
    stars = users[0].y[:, 0].double().numpy() * record.target_std[0] + record.target_mean[0]
    wanted = np.abs(np.diff(stars))[9:].mean()
    assert rating_settings.errors(last_shown, users[:1], family.test, None)[0] == pytest.approx(wanted, abs=1e-5)
    assert shown == list(range(10, 25))
    shown.clear()
    assert rating_settings.errors(last_shown, users[:1], family.test, 12)[0] == pytest.approx(wanted, abs=1e-5)
    assert shown == [10, 11, *[12] * 13]
    frozen = np.abs(stars[9] - stars[10:]).mean()
    assert rating_settings.errors(last_shown, users[:1], family.test, 0)[0] == pytest.approx(frozen, abs=1e-5)


def test_the_stream_is_what_learn_gives(movielens, monkeypatch):
    """Test, then learn, with `Fitted.learn` itself."""
    monkeypatch.setattr(rating_settings, "_LONG", 20)
    with ratings.files() as folder:
        family = ratings.family_of(folder, order_by="timestamp")
    torch.manual_seed(0)
    learner = rating_settings.STREAMED["r2d2"](family.train)
    (own,) = rating_settings.streams(family.test)[:1]
    record = family.test.record

    def stars(y):
        return (np.asarray(y, dtype=np.float64) * record.target_std[0] + record.target_mean[0]).ravel()

    fitted, off = learner.adapt(own.x[:10], own.y[:10]), []
    for i in range(10, len(own.y)):
        off.append(abs(stars(fitted.predict(own.x[i : i + 1])).clip(0.5, 5)[0] - stars(own.y[i])[0]))
        fitted = fitted.learn(own.x[i : i + 1], own.y[i : i + 1])
    found = rating_settings.errors(ratings.predictor(learner), [own], family.test, None)
    assert found[0] == pytest.approx(np.mean(off), abs=1e-4) and isinstance(fitted, il.Fitted)


def test_rows_of_streams_stand_beside_the_means(movielens, monkeypatch):
    monkeypatch.setattr(rating_settings, "_LONG", 20)
    monkeypatch.setattr(rating_settings, "_WINDOWS", (12, None))
    rows = {row["metric"].partition("with 20: ")[2]: row for row in rating_settings.streaming(steps=2)}
    ours = [name for name in rows if name.startswith("r2d2") and " less " not in name]
    assert ours == ["r2d2, the last 12", "r2d2, all so far", "r2d2, the first 10 for good"]
    (means,) = (row for name, row in rows.items() if name.startswith(simple.BIAS) and name.endswith(", all so far"))
    for name in ours:
        (lead,) = (row for told, row in rows.items() if told.startswith(f"{name} less {simple.BIAS}, all so far"))
        assert lead["value"] == pytest.approx(rows[name]["value"] - means["value"], abs=2e-4)
        assert rows[name]["steps"] == lead["steps"] == 2 and means["steps"] == 0
