"""The pictures that a visitor has shown: each can be taken away, each class renamed."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import gradio as gr
import numpy as np

from innerloop.serving.texts import Texts

_SIDE = 112  # pixels of a thumbnail at most

_STYLE = """h4 { margin: 8px 0 2px; display: flex; gap: 8px; align-items: baseline; flex-wrap: wrap; overflow-wrap: anywhere; }
h4 small { color: var(--body-text-color-subdued); font-weight: normal; }
ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: 8px; max-height: 420px; overflow-y: auto; }
li { position: relative; margin: 0; }
img { width: 84px; height: 84px; object-fit: contain; image-rendering: pixelated; margin: 0;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); border-radius: var(--radius-sm); }
button { cursor: pointer; color: var(--body-text-color); }
button.away { position: absolute; top: 0; right: 0; width: 28px; height: 28px; min-width: 0; padding: 0; border-radius: 50%;
  line-height: 1; font-size: 18px; background: var(--background-fill-primary); border: 1px solid var(--border-color-primary); }
button.rename { background: none; border: none; text-decoration: underline; padding: 0 4px; min-height: 28px;
  font-size: var(--text-sm); }"""

# The new name is asked for by the browser itself; one that is left as it was, or empty, is none.
_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.className == 'away') trigger('delete', {index: Number(button.dataset.index)});
  else {
    const name = prompt(button.dataset.ask, button.dataset.name);
    if (name !== null && name.trim() && name.trim() != button.dataset.name)
      trigger('edit', {index: Number(button.dataset.index), name: name.trim()});
  }
});
"""


def shown_pictures(identity: str, value: str = "") -> gr.HTML:
    """A place for what `listed` gives, with the events ``delete`` (index) and ``edit`` (index of one of the class, name)."""
    return gr.HTML(value, css_template=_STYLE, js_on_load=_SCRIPT, elem_id=identity)


def listed(thumbnails: Sequence[str], names: Sequence[str], texts: Texts) -> str:
    """The HTML of some pictures, one group a class in the order of their first; ``names`` () for pictures without classes."""
    groups: dict[str, list[int]] = {}
    for i in range(len(thumbnails)):
        groups.setdefault(names[i] if names else "", []).append(i)
    found = []
    for name, members in groups.items():
        if names:
            rename = (
                f'<button type="button" class="rename" data-index="{members[0]}" data-name="{_text(name)}" '
                f'data-ask="{_text(texts.rename_to.format(name=name))}" '
                f'aria-label="{_text(texts.rename_class.format(name=name))}">{_text(texts.rename)}</button>'
            )
            found.append(f"<h4>{_text(name)} <small>{len(members)}</small> {rename}</h4>")
        found.append("<ul>")
        for number, i in enumerate(members, start=1):
            alt = _text(texts.picture_of.format(number=number, name=name))
            away = _text(texts.take_away.format(number=number, name=name))
            found.append(
                f'<li><img src="{thumbnails[i]}" alt="{alt}"><button type="button" class="away" data-index="{i}" '
                f'aria-label="{away}" title="{away}">×</button></li>'
            )
        found.append("</ul>")
    return "".join(found)


def plain(thumbnails: Sequence[str], alt: str) -> str:
    """The HTML of some pictures that nobody takes away."""
    images = (f'<li><img src="{one}" alt="{_text(alt)} {i}"></li>' for i, one in enumerate(thumbnails, start=1))
    return f"<ul>{''.join(images)}</ul>" if thumbnails else ""


def thumbnail(picture: np.ndarray) -> str:
    """As the learner sees it, as the address of an image; ink on paper where it is grey."""
    from PIL import Image

    values = (1 - picture[0]) if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
    image = Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    kind: Mapping[str, str] = {"L": "PNG", "RGB": "JPEG"}
    image.save(buffer, kind[image.mode], quality=88)
    return f"data:image/{kind[image.mode].lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _text(value: str) -> str:
    # Braces too: what stands in double ones would be taken for a place of the template.
    return html.escape(value).replace("{", "&#123;").replace("$", "&#36;")
