"""Characters drawn again, by another hand and with another pen: pure functions of the tasks' keys.

Two kinds. "pens" is for training: any thickness, slant, size and place, soft or hard edges, pale ink, grain. "brush" is for
validation: what none of those pens does, a broad nib that is thick in one direction, letters that sway, ink that runs dry along
the page.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from innerloop import keys as random_keys

Pictures = Float[Tensor, "pictures 1 height width"]

# Each decision has its own stream; those of `changes` end at 106.
_TURN, _SLANT, _STRETCH, _SCALE, _SHIFT, _BEND, _DILATE, _BLUR, _EDGE, _INK, _PAPER, _GRAIN, _GRAINS, _NIB, _SWAY = (
    range(201, 216)
)
# The ranges of training's changes. Lengths are fractions of half the picture's side.
TURN = 0.26  # radians
SLANT = 0.45
STRETCH = 0.35  # log of width over height
SCALE = (0.68, 1.18)
SHIFT = 0.14
BEND = 0.05  # standard deviation of a 4 x 4 grid of displacements
THICKER = 2.0  # pixels to each side in a picture of 28, at most; less where there is much ink already
GRAIN = 0.08


def redrawn(
    x: Float[Tensor, "tasks examples 1 height width"], keys: Int64[Tensor, " tasks"], kind: str
) -> Float[Tensor, "tasks examples 1 height width"]:
    """Every picture drawn again, by a hand and a pen of its own; with "brush" one nib for a task.

    Args:
        x: grey pictures, 1 is full ink.
        keys: of the tasks: the same keys give the same changes, in whatever batch.
        kind: "pens" or "brush".
    """
    draw = _Draw(keys, x.shape[1], x.dtype)
    made = _with_pens(x.flatten(0, 1), draw) if kind == "pens" else _with_brush(x.flatten(0, 1), draw)
    return made.clamp(0, 1).reshape(x.shape)


class _Draw:
    """Random numbers for each picture of some tasks, or for all pictures of a task the same.

    Args:
        keys: of the tasks.
        examples: pictures of each.
        dtype: of the numbers.
    """

    def __init__(self, keys: Tensor, examples: int, dtype: torch.dtype) -> None:
        self.keys, self.examples, self.dtype = keys, examples, dtype

    def between(self, low: float, high: float, salt: int, shape: tuple[int, ...] = (), alike: bool = False) -> Tensor:
        """Uniform, (pictures, *shape)."""
        each = 1 if alike else self.examples
        found = random_keys.uniform(self.keys, (each, *shape), salt, self.dtype)
        return (low + (high - low) * found).expand(-1, self.examples, *shape).reshape(-1, *shape)

    def normal(self, salt: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal, (pictures, *shape)."""
        return random_keys.normal(self.keys, (self.examples, *shape), salt, self.dtype).reshape(-1, *shape)


def _with_pens(x: Pictures, draw: _Draw) -> Pictures:
    turn, slant = draw.between(-TURN, TURN, _TURN), draw.between(-SLANT, SLANT, _SLANT)
    stretch, scale = draw.between(-STRETCH, STRETCH, _STRETCH), draw.between(*SCALE, _SCALE)
    shift, bend = draw.between(-SHIFT, SHIFT, _SHIFT, (2,)), BEND * draw.normal(_BEND, (16, 2))
    found = _warped(x, turn, slant, stretch, scale, shift, bend)
    room = (1 - 3 * found.mean((1, 2, 3))).clamp(min=0)
    found = _thicker(found, draw.between(0, THICKER, _DILATE) * (min(x.shape[-2:]) / 28) * room)
    found = torch.lerp(found, _smoothed(found), _each(draw.between(0, 1, _BLUR)))
    # Where ink ends: hard edges at some level, or edges as soft as they are.
    level, hardness = (_each(v) for v in draw.between(0, 1, _EDGE, (2,)).unbind(-1))
    found = ((found - 0.15 - 0.35 * level) * (1 + 2 * hardness) + 0.35).clamp(0, 1)
    paper, ink = _each(draw.between(0, 0.12, _PAPER)), _each(draw.between(0.55, 1.0, _INK))
    grain = _each(draw.between(0, GRAIN, _GRAIN)) * draw.normal(_GRAINS, x.shape[1:])
    return paper + (ink - paper) * found + grain


def _with_brush(x: Pictures, draw: _Draw) -> Pictures:
    """A nib of a length and direction of the task; each letter sways as a wave; ink fades to one side."""
    side = min(x.shape[-2:])
    angle, length = (draw.between(0, top, _NIB + i, alike=True) for i, top in ((0, torch.pi), (100, 2.2 * side / 28)))
    height, width = x.shape[-2:]
    rows, columns = (torch.linspace(-1 + 1 / n, 1 - 1 / n, n, dtype=x.dtype, device=x.device) for n in (height, width))
    phase, size = draw.between(0, 2 * torch.pi, _SWAY, (2,)), draw.between(0, 0.10, _SWAY + 100, (2,))
    zoom = _each(draw.between(0.75, 1.1, _SCALE))[:, 0] ** -1
    across = columns * zoom + (size[:, :1, None] * torch.sin(3 * rows[None, :, None] + phase[:, :1, None]))
    down = rows[:, None] * zoom + (size[:, 1:, None] * torch.sin(3 * columns[None, None] + phase[:, 1:, None]))
    grid = torch.stack([across, down], -1)
    swayed = F.grid_sample(x, grid, align_corners=False)
    # The nib: the most ink along a short line.
    places = torch.linspace(-1, 1, 5, dtype=x.dtype, device=x.device)
    plain = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
    nib = torch.stack([torch.cos(angle), torch.sin(angle)], -1) * (length / side)[:, None]
    inked = [F.grid_sample(swayed, plain + place * nib[:, None, None], align_corners=False) for place in places]
    dry = 1 - draw.between(0, 0.5, _INK)[:, None, None, None] * ((columns + 1) / 2)
    return torch.stack(inked).amax(0).mul(1.3).clamp(max=1) * dry


def _each(values: Tensor) -> Tensor:
    """A number of each picture, shaped to meet its pixels."""
    return values.reshape(-1, 1, 1, 1)


def _warped(
    x: Pictures, turn: Tensor, slant: Tensor, stretch: Tensor, scale: Tensor, shift: Tensor, bend: Tensor
) -> Pictures:
    """Pictures seen through an affine map and a bend, (pictures, 16, 2) displacements of a 4 x 4 grid."""
    cos, sin = torch.cos(turn), torch.sin(turn)
    # From picture to drawing: shift back, then undo the scale, the turn, the slant and the stretch.
    inverse = torch.stack([cos + slant * sin, sin - slant * cos, -sin, cos], -1).reshape(-1, 2, 2)
    sides = torch.exp(torch.stack([stretch, -stretch], -1) / 2) * scale[:, None]
    inverse = inverse / sides[..., None]
    weights = torch.cat([inverse, -(inverse @ shift[..., None]), bend.mT], -1)
    surfaces = _surfaces(x.shape[-2], x.shape[-1]).to(x)
    grid = (weights @ surfaces).reshape(-1, 2, *x.shape[-2:]).movedim(1, -1)
    return F.grid_sample(x, grid, align_corners=False)


@functools.lru_cache(maxsize=4)
def _surfaces(height: int, width: int) -> Float[Tensor, "19 pixels"]:
    """What a map of the plane is a weighted sum of: x, y, 1 and a bump for each point of a 4 x 4 grid."""
    down, across = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in (height, width))
    plane = torch.stack(
        [across.expand(height, width), down[:, None].expand(height, width), torch.ones(height, width).double()]
    )
    points = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    bumps = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
    return torch.cat([plane, bumps[:, 0]]).flatten(1)


def _thicker(x: Pictures, pixels: Float[Tensor, " pictures"]) -> Pictures:
    """Strokes wider by so many pixels to each side."""
    found = x
    for i in range(int(THICKER * min(x.shape[-2:]) / 28 + 1)):
        more = F.max_pool2d(found, 3, 1, 1) if i % 2 else _cross(found)
        found = torch.lerp(found, more, _each((pixels - i).clamp(0, 1)))
    return found


def _cross(x: Pictures) -> Pictures:
    """The most ink of each pixel and its four neighbours: with squares in turn, strokes end about round."""
    return torch.maximum(F.max_pool2d(x, (3, 1), 1, (1, 0)), F.max_pool2d(x, (1, 3), 1, (0, 1)))


def _smoothed(x: Pictures) -> Pictures:
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    across = F.conv2d(x, kernel.reshape(1, 1, 1, 3), padding=(0, 1))
    return F.conv2d(across, kernel.reshape(1, 1, 3, 1), padding=(1, 0))
