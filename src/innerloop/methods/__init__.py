"""The methods, by their paper's name. A new method is one file here and one line in ALGORITHMS.

Its file holds all of it: networks, learner or rule, factory. What several methods share is in learners/, rules/ and models/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.errors import ConfigError
from innerloop.registry import Entry, bound, call, load

ALGORITHMS: dict[str, Entry] = {
    "maml": Entry(
        "innerloop.methods.maml:maml",
        "Learn an initialisation by backprop through the inner loop (Finn 2017).",
    ),
    "fomaml": Entry("innerloop.methods.maml:fomaml", "MAML without second derivatives (Finn 2017)."),
    "reptile": Entry(
        "innerloop.methods.reptile:reptile",
        "Move the initialisation towards each task's solution (Nichol 2018).",
    ),
    "anil": Entry("innerloop.methods.maml:anil", "MAML that adapts the head only (Raghu 2020)."),
    "boil": Entry("innerloop.methods.maml:boil", "MAML that adapts the body only (Oh 2021)."),
    "melu": Entry(
        "innerloop.methods.melu:melu",
        "MAML on the layers behind the embedding, for a user's ratings of items (Lee 2019).",
    ),
    "meta_sgd": Entry(
        "innerloop.methods.maml:meta_sgd",
        "MAML with a learned rate for every parameter (Li 2017).",
    ),
    "mamlpp": Entry(
        "innerloop.methods.mamlpp:mamlpp",
        "MAML++: six stabilisers, each switchable (Antoniou 2019).",
    ),
    "imaml": Entry(
        "innerloop.methods.imaml:imaml",
        "Implicit MAML: memory does not grow with inner steps (Rajeswaran 2019).",
    ),
    "protonet": Entry(
        "innerloop.methods.protonet:protonet",
        "Nearest class mean in a learned embedding (Snell 2017).",
    ),
    "oml": Entry(
        "innerloop.methods.oml:oml",
        "Features on which a stream of classes is learned without forgetting (Javed 2019).",
    ),
    "anml": Entry(
        "innerloop.methods.oml:anml",
        "OML with a network that gates the features (Beaulieu 2020).",
    ),
    "mann": Entry(
        "innerloop.methods.mann:mann",
        "A controller with an external memory reads the task as a sequence (Santoro 2016).",
    ),
    "metanet": Entry(
        "innerloop.methods.metanet:metanet",
        "Fast weights made from loss gradients, beside slow ones (Munkhdalai 2017).",
    ),
    "snail": Entry(
        "innerloop.methods.snail:snail",
        "Causal convolutions and attention over the support set (Mishra 2018).",
    ),
    "lstm_metalearner": Entry(
        "innerloop.methods.lstm_metalearner:lstm_metalearner",
        "An LSTM cell is the update rule (Ravi 2017).",
    ),
    "cnp": Entry(
        "innerloop.methods.cnp:cnp",
        "The mean of the examples' codes, decoded to a normal distribution at each query (Garnelo 2018).",
    ),
    "anp": Entry(
        "innerloop.methods.anp:anp",
        "A neural process whose queries attend to the support examples, with a latent variable (Kim 2019).",
    ),
    "pfn": Entry(
        "innerloop.methods.pfn:pfn",
        "A transformer trained on tasks from a prior, which reads the support set as its context (Mueller 2022).",
    ),
    "gp_mixture": Entry(
        "innerloop.methods.gp_mixture:gp_mixture",
        "Gaussian processes of many kinds, weighted by how well they explain the support set; what they are is learned.",
    ),
    "siamese": Entry(
        "innerloop.methods.siamese:siamese",
        "Same class or not? Twin networks trained on pairs (Koch 2015).",
    ),
    "matching": Entry(
        "innerloop.methods.matching:matching",
        "Attention over the support examples by cosine (Vinyals 2016).",
    ),
    "relation": Entry(
        "innerloop.methods.relation:relation",
        "A learned network compares query and class (Sung 2018).",
    ),
    "r2d2": Entry("innerloop.methods.r2d2:r2d2", "Ridge regression on a learned embedding (Bertinetto 2019)."),
    "dkt": Entry(
        "innerloop.methods.dkt:dkt",
        "A Gaussian process on a learned embedding, by its marginal likelihood (Patacchiola 2020).",
    ),
    "alpaca": Entry(
        "innerloop.methods.alpaca:alpaca",
        "A Bayesian last layer, updated example by example; finds changes of the task (Harrison 2018, 2020).",
    ),
    "column_evidence": Entry(
        "innerloop.methods.column_evidence:column_evidence",
        "Densities, ridge and neighbours of a table's columns, with learned trust in each; any columns and classes.",
    ),
    "proto_maml": Entry(
        "innerloop.methods.proto_maml:proto_maml",
        "MAML from a head made of class means, any ways (Triantafillou 2020).",
    ),
    "pretrained": Entry(
        "innerloop.methods.pretrained:pretrained",
        "Baseline: transfer learning from all tasks pooled.",
    ),
    "multitask_average": Entry(
        "innerloop.methods.multitask_average:multitask_average",
        "Baseline: the mean of each task's own solution.",
    ),
    "scratch": Entry(
        "innerloop.methods.scratch:scratch",
        "Baseline: no meta-learning, every task from random weights.",
    ),
}

# What learns optimizers from training runs. They take no model, and no other problem.
OPTIMIZERS: dict[str, Entry] = {
    "learned_schedule": Entry(
        "innerloop.methods.learned_schedule:learned_schedule",
        "Learn the rates of Adam or SGD for each step and tensor of a training run.",
    ),
    "learned_optimizer": Entry(
        "innerloop.methods.learned_optimizer:learned_optimizer",
        "Learn the optimizer itself, from training runs (Andrychowicz 2016, Metz 2020).",
    ),
}
# What makes new examples, from tasks without labels. They take a denoiser, and no other problem.
GENERATIVE: dict[str, Entry] = {
    "score_model": Entry(
        "innerloop.methods.score_model:score_model",
        "Shown a few examples, make more and say how likely others are, by denoising (Song 2019, Karras 2022, Giannone 2022).",
    ),
}
# What learns policies, in worlds. They take no other problem.
AGENTS: dict[str, Entry] = {
    "rl2": Entry("innerloop.methods.rl2:rl2", "A policy with a memory learns a world as it plays in it (Duan 2016)."),
    "maml_rl": Entry(
        "innerloop.methods.maml_rl:maml_rl", "A policy that one policy gradient fits to a new world (Finn 2017)."
    ),
}
FAMILIES: dict[str, dict[str, Entry]] = {  # by what they learn
    "few examples": ALGORITHMS,
    "training runs": OPTIMIZERS,
    "new examples of a kind": GENERATIVE,
    "policies": AGENTS,
}
NAMED: dict[str, Entry] = {
    name: entry for family in FAMILIES.values() for name, entry in family.items()
}  # what a word can stand for, in Python, in a file and on the command line

# What `innerloop try` begins with: quick ones that take any number of classes, or values; the first of them needs no training on
# features that are good already.
FIRST_FOR_CLASSES, FIRST_FOR_VALUES = ("protonet", "r2d2"), ("r2d2", "maml")


def make(name: str, model: Any, options: Mapping[str, Any], *, typed: bool = False) -> Any:
    """A MetaLearner by its method's name: ours, an installed package's, or ``package.module:function`` that a user has typed.

    Somebody else's goes by the name that it was called by, with all of that call's options, whatever it is made from: so files
    make it again.
    """
    factory = load("algorithm", NAMED, name, typed=typed)
    if name in OPTIMIZERS:
        return factory(**options)
    if name in NAMED:
        return factory(model, **options)
    learner = call("algorithm", name, factory, model, **options)
    from innerloop.meta_learner.meta_learner import MetaLearner

    if not isinstance(learner, MetaLearner):
        raise ConfigError(f"the algorithm {name!r} expected to return a MetaLearner, got {type(learner).__name__}")
    learner.made_by(name, {key: value for key, value in bound(factory, options).items() if key != "model"})
    return learner


def settings(name: str, kind: str, *, typed: bool = False) -> dict[str, dict[str, Any]]:
    """What a method recommends for "regression" or "classification" problems, beyond its defaults.

    Returns:
        ``{"algorithm": {...}, "tasks": {...}, "model": {...}}``: keyword arguments of the factory, of the problem (for example
        more training shots for Reptile) and of the model (an embedding has no last layer). What the user says goes first.
        Nothing, for a function that recommends nothing.
    """
    recommended = getattr(load("algorithm", NAMED, name, typed=typed), "settings", None)
    return {} if recommended is None else recommended(kind)
