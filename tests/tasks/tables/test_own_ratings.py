"""Ratings: what is known of an item leaves the user out, a scale is a scale, a changed rating takes the other's place."""

import csv
import json
import warnings

import numpy as np
import pytest

import innerloop as il
from innerloop.data.item_targets import ItemTargets
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.tables import as_table
from innerloop.errors import CheckpointError, ConfigError, InnerloopWarning, InputError
from innerloop.tasks.tables.own import check, table_family

FILMS = [str(i) for i in range(1, 31)]


@pytest.fixture
def files(tmp_path):
    """40 users rate 12 of 30 films in half stars: a film's level + a user's; two more films that nobody has rated."""
    rng = np.random.default_rng(0)
    level, rows = rng.normal(size=31), ["userId,movieId,rating,timestamp"]
    for user in range(40):
        mine = rng.normal() / 2
        for film in rng.permutation(FILMS)[:12]:
            stars = np.clip(np.round(2 * (3 + level[int(film)] + mine)) / 2, 0.5, 5)
            rows.append(f"{user},{film},{stars},{1_000_000_000 + rng.integers(10**8)}")
    (tmp_path / "ratings.csv").write_text("\n".join(rows))
    genres = ["Action|Comedy", "War", "Action", "Comedy|War"]
    films = [f"{f},Film {f} ({1970 + int(f)}),{genres[int(f) % 4]}" for f in [*FILMS, "98", "99"]]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    return tmp_path / "ratings.csv", tmp_path / "movies.csv"


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InnerloopWarning)
        yield


def problem(files, **options):
    return il.tasks.ratings(files[0], items=files[1], shots=4, **options)


def learner_of(tasks, make=il.r2d2, outputs=None):
    net = il.models.items_mlp(tasks.train.record.width, outputs, items=tasks.train.record.items, width=4, hidden=(8,))
    learner = make(net)
    il.fit(learner, tasks, steps=3, num_tasks=4, valid_tasks=4, quiet=True)
    return learner


def test_the_columns_are_found_and_the_names_are_those_of_the_command_line(files):
    tasks = problem(files)
    assert [tasks.options[k] for k in ("task_column", "item_column", "target")] == ["userId", "movieId", "rating"]
    assert tasks.options["ignore"] == ["timestamp"] and tasks.train.record.scale == (0.5, 5.0)
    facts = tasks.train.record.columns[0].facts
    assert facts.names == ("genres: Action", "genres: Comedy", "genres: War", "title: year",
                           "rating: mean", "rating: mean above each task's own", "rating: how many (log)")  # fmt: skip
    year = dict(zip(facts.items, facts.values, strict=True))
    assert year["99"][3] is None or year["99"][-3:] == (0.0, 0.0, 0.0)  # nobody has rated it
    spread = np.array([year[f][3] for f in FILMS])
    assert (np.diff(spread) > 0).all() and abs(spread.mean()) < 0.1  # 1971 to 2000, scaled
    again = il.tasks.from_path(files[0], **tasks.options)
    assert again.train.record == tasks.train.record  # a run makes it again


def test_what_is_known_of_an_item_leaves_the_user_out(files):
    """By hand for each training row; for others from all training users."""
    tasks = problem(files)
    record = tasks.train.record
    rows = list(csv.DictReader(files[0].open()))
    mean, std = record.target_mean[0], record.target_std[0]
    train = {}
    for row in rows:
        if row["userId"] in tasks.train.task_names:
            train.setdefault(row["userId"], []).append((row["movieId"], (float(row["rating"]) - mean) / std))
    said = ItemTargets.of(
        {u: (np.array([f for f, _ in own], object), np.array([y for _, y in own])) for u, own in train.items()}
    )
    column = record.columns[0]

    def by_hand(film, without=None):
        others = {u: own for u, own in train.items() if u != without}
        values = [(y, y - np.mean([v for _, v in own])) for u, own in others.items() for f, y in own if f == film]
        sums = np.sum(values, 0) if values else np.zeros(2)
        return [
            *(sums / (len(values) + np.array(said.strengths))),
            3 * np.log1p(len(values)) / np.log1p(said.counts.max()),
        ]

    for split, group in ((tasks.train, True), (tasks.test, False)):
        batch = split.each(_keys(split.size), _all(split.size))
        for u, name in enumerate(split.task_names):
            for side in (batch.support, batch.query):
                for i in range(side.x.shape[1]):
                    if side.mask is not None and not side.mask[u, i]:
                        continue
                    film = column.items[int(side.x[u, i, 0]) - 1] if side.x[u, i, 0] > 0 else None
                    if film is not None:
                        expected = by_hand(film, name if group else None)
                        assert side.x[u, i, -3:].tolist() == pytest.approx(expected, abs=2e-4), (
                            split.split,
                            name,
                            film,
                        )


def _keys(count):
    from innerloop import keys

    return keys.task_keys(0, "any", 0, 0, count)


def _all(count):
    import torch

    return torch.arange(count)


def test_strengths_follow_how_much_items_differ():
    rng = np.random.default_rng(1)

    def said(between):
        level = between * rng.normal(size=200)
        rows = {}
        for user in range(100):
            films = rng.permutation(200)[:40]
            rows[str(user)] = (films.astype(str).astype(object), level[films] + rng.normal(size=40))
        return ItemTargets.of(rows).strengths[0]

    assert said(1.0) == pytest.approx(1.0, rel=0.3)  # the variance within over that between
    assert said(0.5) == pytest.approx(4.0, rel=0.4)
    assert said(0.0) > 20


def test_statistics_can_be_left_out_and_asked_for(files):
    with_all, without = problem(files), problem(files, item_statistics=False)
    assert with_all.train.record.width == without.train.record.width + 3
    assert without.train.record.scale == (0.5, 5.0)
    with pytest.raises(ConfigError, match="item_statistics expected one item_column"):
        table_family(files[0], target="rating", task_column="userId", ignore=["movieId"], item_statistics=True)


def test_what_is_no_scale_is_not_taken_for_one(files):
    lines = files[0].read_text().splitlines()
    rng = np.random.default_rng(0)
    prices = [lines[0], *(f"{','.join(line.split(',')[:2])},{rng.normal():.4f},1" for line in lines[1:])]
    files[0].write_text("\n".join(prices))
    tasks = problem(files)
    assert tasks.train.record.scale == () and tasks.train.metrics == ("mse",)
    assert "rating: mean" not in tasks.train.record.columns[0].facts.names


def test_metrics_are_in_stars_and_rank(files):
    tasks = problem(files)
    learner = learner_of(tasks)
    report = il.evaluate(learner, tasks.test)
    assert report.metric == "mae" and {"ndcg", "rmse"} <= set(report.metrics)
    batch = next(iter(tasks.test.batches(3, seed=0)))
    record = tasks.test.record
    import torch

    from innerloop.evaluation.evaluate import task_metrics

    scale, offset = torch.tensor(record.target_std), torch.tensor(record.target_mean)
    predicted = learner.predict_queries(batch)
    found = task_metrics(["mae", "ndcg"], predicted, batch, scale, offset)
    for u in range(3):
        there = np.ones(batch.query.y.shape[1], bool) if batch.query.mask is None else batch.query.mask[u].numpy()
        stars = np.round(2 * (batch.query.y[u, :, 0].double() * scale + offset).numpy()[there]) / 2
        said = (predicted[u, :, 0].double() * scale + offset).numpy()[there]
        assert found["mae"][u].item() == pytest.approx(np.abs(said - stars).mean(), abs=1e-5)
        gains, discount = 2**stars - 1, 1 / np.log2(np.arange(2, 12))
        top, best = (gains[o][:10] for o in (np.argsort(-said, kind="stable"), np.argsort(-stars)))
        assert found["ndcg"][u].item() == pytest.approx(
            top @ discount[: len(top)] / (best @ discount[: len(best)]), abs=1e-5
        )


@pytest.mark.usefixtures("quiet")
def test_the_time_of_ratings_orders_them_and_is_no_input(files):
    options = {
        "target": "rating",
        "task_column": "userId",
        "item_column": "movieId",
        "order_by": "timestamp",
        "shots": 4,
    }
    tasks = table_family(files[0], **options)
    assert [c.name for c in tasks.train.record.columns] == ["movieId"]
    kept = table_family(files[0], **options, quantities=["timestamp"])
    assert [c.name for c in kept.train.record.columns] == ["movieId", "timestamp"]
    assert any("orders the ratings and is no input" in line for line in check(files[0], **options).lines)
    when = {}
    for row in csv.DictReader(files[0].open()):
        when.setdefault(row["userId"], []).append((int(row["timestamp"]), row["movieId"]))
    batch = tasks.test.each(_keys(tasks.test.size), _all(tasks.test.size))
    items = tasks.test.record.columns[0].items
    for u, name in enumerate(tasks.test.task_names):
        first = [film for _, film in sorted(when[name])[:4]]
        shown = [items[int(n) - 1] if n else None for n in batch.support.x[u, :, 0]]
        assert [f if f in items else None for f in first] == shown


def test_a_changed_rating_takes_the_place_of_the_other(files):
    lines = files[0].read_text().splitlines()
    user, film, stars, _ = lines[1].split(",")
    files[0].write_text("\n".join([*lines, f"{user},{film},{0.5 if stars != '0.5' else 5},2000000000"]))
    notes = check(files[0], target="rating", task_column="userId", item_column="movieId", order_by="timestamp", shots=4)
    assert any("1 ratings that their task changed later" in line for line in notes.lines)
    tasks = problem(files)
    for make in (il.r2d2, lambda net: il.cnp(net, outputs=1, width=8)):  # one that adapts again, one that absorbs
        learner = learner_of(tasks, make)
        first = {"movieId": [1, 2, 3], "rating": [5, 4, 1.0]}
        fitted = learner.adapt(first)
        with pytest.warns(InnerloopWarning, match="the last rating of each counts"):
            changed = fitted.learn({"movieId": [2], "rating": [0.5]})
        wanted = learner.adapt({"movieId": [1, 3, 2], "rating": [5, 1.0, 0.5]})
        asked = as_table({"movieId": [4, 5, 98]})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_allclose(changed.predict(asked), wanted.predict(asked), atol=1e-5)
            assert sorted(changed.seen) == ["1", "2", "3"] and changed.num_examples == 3
            assert not np.allclose(changed.predict(asked), fitted.predict(asked))
            twice = learner.adapt({"movieId": [1, 2, 3, 2], "rating": [5, 4, 1.0, 0.5]})
            np.testing.assert_allclose(twice.predict(asked), wanted.predict(asked), atol=1e-5)


@pytest.mark.usefixtures("quiet")
def test_a_file_with_its_support_set_takes_a_changed_rating_too(files, tmp_path):
    learner = learner_of(problem(files), lambda net: il.cnp(net, outputs=1, width=8))
    fitted = learner.adapt({"movieId": [1, 2, 3], "rating": [5, 4, 1.0]})
    asked = as_table({"movieId": [4, 5, 98]})
    wanted = learner.adapt({"movieId": [1, 3, 2], "rating": [5, 1.0, 0.5]}).predict(asked)
    whole = il.load(fitted.save(tmp_path / "whole.il", support=True))
    found = whole.learn({"movieId": [2], "rating": [0.5]})
    np.testing.assert_allclose(found.predict(asked), wanted, atol=1e-5)
    assert found.seen == ("1", "3", "2")
    without = il.load(fitted.save(tmp_path / "without.il"))
    with pytest.raises(InputError, match="a new rating of '2' in place of another needs the support set"):
        without.learn({"movieId": [2], "rating": [0.5]})
    more = without.learn({"movieId": [7], "rating": [2.0]})  # which it has not rated: absorbed
    assert more.seen == ("1", "2", "3", "7")


def test_what_no_rating_can_be_is_one_line(files):
    learner = learner_of(problem(files))
    for given, match in (
        ({"movieId": [1, 2], "rating": [3.0, 7.0]}, r"row 2: 'rating' expected 0.5 to 5, the scale .* got 7"),
        ({"movieId": [1, 2], "rating": [0.0, 3.0]}, r"row 1: 'rating' expected 0.5 to 5.* got 0"),
        ({"movieId": [], "rating": []}, "at least one row"),
    ):
        with pytest.raises(InputError, match=match) as caught:
            learner.adapt(given)
        assert "\n" not in str(caught.value)
    fitted = learner.adapt({"movieId": [1, 2], "rating": [3.0, 5.0]})
    with pytest.raises(InputError, match=r"expected 0\.5 to 5"):
        fitted.learn({"movieId": [3]}, [9.0])
    with pytest.warns(
        InnerloopWarning, match="1 of 2 rows hold an item that the learner does not know, such as 'never'"
    ):
        fitted.predict(as_table({"movieId": ["never", "1"]}))


@pytest.mark.usefixtures("quiet")
def test_rank_is_the_order_of_predictions(files, tmp_path):
    learner = learner_of(problem(files), il.melu, 1)
    fitted = learner.adapt({"movieId": [1, 2, 3], "rating": [5, 4, 1.0]})
    every = [*map(int, FILMS), 98, 99]
    stars = fitted.predict(as_table({"movieId": every}))[:, 0]
    wanted = [every[i] for i in np.argsort(-stars, kind="stable")]
    found = fitted.rank(k=50, exclude_seen=False)
    assert sorted(found) == sorted(every) and [stars[every.index(f)] for f in found] == pytest.approx(
        sorted(stars)[::-1]
    )
    assert fitted.rank(k=5) == [f for f in found if f not in (1, 2, 3)][:5]
    assert fitted.rank(["7", "1", "99", "7"], k=10) == [f for f in map(str, wanted) if f in ("7", "99")]
    assert fitted.rank(as_table({"movieId": [7, 1, 99]}), k=1, exclude_seen=False)[0] in (7, 1, 99)
    assert il.load(fitted.save(tmp_path / "task.il")).rank(k=5) == fitted.rank(k=5)
    assert fitted.learn({"movieId": found[5:6], "rating": [1.0]}).rank(k=40).count(found[5]) == 0
    for call, error, match in (
        (lambda: fitted.rank([1, 2]), InputError, "that the user has not rated, got 2 that are"),
        (lambda: fitted.rank([]), InputError, "rank expected items, got none"),
        (lambda: fitted.rank(k=0), ConfigError, "k expected"),
    ):
        with pytest.raises(error, match=match):
            call()


@pytest.mark.usefixtures("quiet")
def test_rank_asks_for_what_it_needs(files):
    tasks = table_family(files[0], target="rating", task_column="userId", item_column="movieId", shots=4)
    learner = learner_of(tasks)
    fitted = learner.adapt({"movieId": [1, 2], "rating": [3.0, 5.0], "timestamp": [1e9, 1e9]})
    with pytest.raises(ConfigError, match="expected a table with 'timestamp' beside 'movieId'"):
        fitted.rank()
    assert fitted.rank({"movieId": [7, 8], "timestamp": [1e9, 1e9]}, k=1)[0] in (7, 8)
    curves = il.maml(il.models.mlp(1, 1)).adapt(np.zeros((3, 1)), np.zeros((3, 1)))
    with pytest.raises(ConfigError, match="rank expected a task of ratings"):
        curves.rank()


@pytest.mark.usefixtures("quiet")
def test_records_with_a_scale_travel(files):
    record = problem(files).train.record
    text = json.dumps(record.to_dict())
    assert json.loads(text)["version"] == 5 and TablePreprocessing.from_dict(json.loads(text)) == record
    for scale in ([5.0, 0.5], [1.0], [0.5, float("inf")]):
        with pytest.raises(CheckpointError, match="damaged"):
            TablePreprocessing.from_dict({**json.loads(text), "scale": scale})
    plain = table_family(files[0], target="rating", task_column="userId", ignore=["movieId"]).train.record.to_dict()
    assert "scale" not in plain


def test_columns_that_cannot_be_found_are_asked_for(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("\n".join(["a,b,c", *(f"{i},{i % 7},{i % 5}" for i in range(60))]))
    with pytest.raises(ConfigError, match=r"expected \w+, the column of .* name one of 'a', 'b', 'c'"):
        il.tasks.ratings(path)
