"""Four families of tasks that are not labelled examples, as somebody outside would write them."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

import innerloop as il
from innerloop import keys


def family(name: str, distribution) -> il.TaskFamily:
    return il.TaskFamily(name, distribution("train"), distribution("valid"), distribution("test"), {})


class Split(il.TaskDistribution):
    def __init__(self, split: str) -> None:
        self.split = split


class Denoising(il.Objective):
    """Score matching: predict the noise that was added; there are no labels."""

    metrics: ClassVar = {"denoising": False}

    def loss(self, apply, data, key):
        noise = keys.normal(key, data.shape, dtype=data.dtype)
        return (apply(data + 0.5 * noise) - noise).square().mean()

    def measure(self, apply, data, key):
        return {"denoising": self.loss(apply, data, key)}


class Clouds(Split):
    """Points around a place of the task's own."""

    name, objective = "clouds", Denoising()

    def from_keys(self, task_keys):
        centre = 3 * keys.normal(task_keys, (1, 2), 1)
        points = centre + 0.1 * keys.normal(task_keys, (24, 2), 2)
        return il.Task(support=points[:, :12], query=points[:, 12:], objective=self.objective, noise=task_keys)

    def default_model(self):
        return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))


def clouds() -> il.TaskFamily:
    return family("clouds", Clouds)


class Reward(il.Objective):
    """REINFORCE on a bandit: new pulls at every step, nothing is stored."""

    metrics: ClassVar = {"return": True}

    def pulls(self, apply, data, key):
        logits = apply(torch.ones(32, 1, dtype=data["means"].dtype, device=data["means"].device))
        chance = torch.softmax(logits, -1)
        drawn = keys.uniform(key, (32, 1), dtype=chance.dtype)
        arm = (chance.detach().cumsum(-1) < drawn).sum(-1).clamp(max=chance.shape[-1] - 1)
        reward = data["means"][arm] + 0.1 * keys.normal(key, (32,), 5, dtype=chance.dtype)
        return torch.log_softmax(logits, -1).gather(-1, arm[:, None])[:, 0], reward

    def loss(self, apply, data, key):
        chosen, reward = self.pulls(apply, data, key)
        return -(chosen * (reward - reward.mean())).mean()

    def measure(self, apply, data, key):
        return {"return": self.pulls(apply, data, key)[1].mean()}


class Bandits(Split):
    """Five arms, the best of which is the task's own."""

    name, objective = "bandits", Reward()

    def from_keys(self, task_keys):
        best = keys.integers(task_keys, 5, (1,), 1)
        side = {"means": F.one_hot(best[:, 0], 5).to(torch.get_default_dtype())}
        return il.Task(support=side, query=side, objective=self.objective, noise=task_keys)

    def default_model(self):
        return nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 5))


class Kept(il.Objective):
    """Class of every example of a stream."""

    metrics: ClassVar = {"kept": True}
    draws = False

    def loss(self, apply, data, key):
        return F.cross_entropy(apply(data["x"]), data["label"])

    def measure(self, apply, data, key):
        return {"kept": (apply(data["x"]).argmax(-1) == data["label"]).to(data["x"].dtype).mean()}


class Stream(Split):
    """Classes come one after the other, one example a step, in order."""

    name, objective, _classes, _each = "stream", Kept(), 4, 5

    def from_keys(self, task_keys):
        centre = 2 * keys.normal(task_keys, (self._classes, 1, 8), 1)
        sides = []
        for salt in (2, 3):
            x = centre + 0.3 * keys.normal(task_keys, (self._classes, self._each, 8), salt)
            label = torch.arange(self._classes).repeat_interleave(self._each).expand(len(task_keys), -1)
            sides.append({"x": x.flatten(1, 2), "label": label})
        return il.Task(support=sides[0], query=sides[1], objective=self.objective, noise=task_keys)

    def default_model(self):
        return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, self._classes))


class Edges(il.Objective):
    """Yes or no for every graph, a dictionary of nodes and edges; judged by the area under the ROC curve."""

    metrics: ClassVar = {"auroc": True}
    draws = False

    def loss(self, apply, data, key):
        return F.binary_cross_entropy_with_logits(apply({"nodes": data["nodes"], "edges": data["edges"]}), data["y"])

    def measure(self, apply, data, key):
        score, y = apply({"nodes": data["nodes"], "edges": data["edges"]}), data["y"]
        above = (score[:, None] > score[None]).to(score.dtype) + 0.5 * (score[:, None] == score[None]).to(score.dtype)
        pairs = y[:, None] * (1 - y[None])
        return {"auroc": (above * pairs).sum() / pairs.sum().clamp(min=1)}


class GraphNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.message, self.out = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, graph):
        seen = graph["edges"] @ torch.relu(self.message(graph["nodes"]))
        return self.out(seen.mean(1))[:, 0]


class Graphs(Split):
    """A graph's label: on which side of the task's own plane the mean of what its nodes receive lies."""

    name, objective = "graphs", Edges()

    def from_keys(self, task_keys):
        which = keys.normal(task_keys, (1, 1, 3), 1)
        nodes = keys.normal(task_keys, (32, 6, 3), 2)
        edges = (keys.uniform(task_keys, (32, 6, 6), 3) < 0.5).to(nodes.dtype) + torch.eye(6)
        y = (((edges @ nodes).mean(2) * which[:, 0]).sum(-1) > 0).to(nodes.dtype)
        sides = [{"nodes": nodes[:, s], "edges": edges[:, s], "y": y[:, s]} for s in (slice(0, 16), slice(16, 32))]
        return il.Task(support=sides[0], query=sides[1], objective=self.objective, noise=task_keys)

    def default_model(self):
        return GraphNet()


FAMILIES = {"clouds": Clouds, "bandits": Bandits, "stream": Stream, "graphs": Graphs}
SETTINGS = {
    "clouds": {"inner_lr": 0.05, "inner_steps": 5},
    "bandits": {"inner_lr": 1.0, "inner_steps": 5},
    "stream": {"inner_lr": 0.05, "inner_steps": 20},
    "graphs": {"inner_lr": 0.3, "inner_steps": 5},
}
