"""A canvas to draw on with mouse, pen or finger: there is one brush, and it is always on."""

from __future__ import annotations

from typing import Any

import gradio as gr

from innerloop.errors import InputError

_START = "data:image/png;base64,"  # as browsers write pictures
_SIDE = 280  # pixels of the drawing, on whatever size it is shown at

_TEMPLATE = f"""<canvas width="{_SIDE}" height="{_SIDE}" role="img" aria-label="draw here"></canvas>
<button type="button" class="wipe">WIPE</button>"""

_STYLE = """canvas { display: block; width: min(100%, 280px); aspect-ratio: 1; margin: 0 auto; background: #fff;
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-sm); cursor: crosshair; touch-action: none; }
.wipe { display: block; margin: 6px auto 0; padding: 2px 10px; font-size: var(--text-sm); font-weight: normal;
  background: none; border: none; color: var(--body-text-color); text-decoration: underline; cursor: pointer; }"""

# The value is the drawing as a data URL, and empty for an empty canvas; the page empties it once a drawing was taken.
_SCRIPT = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let down = false;
function wipe() {
  pen.fillStyle = '#fff'; pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = '#000'; pen.lineWidth = 16; pen.lineCap = pen.lineJoin = 'round';
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}
function line(event) { pen.lineTo(...place(event)); pen.stroke(); }
canvas.addEventListener('pointerdown', (event) => {
  event.preventDefault(); canvas.setPointerCapture(event.pointerId);
  down = true; pen.beginPath(); pen.moveTo(...place(event)); line(event);
});
canvas.addEventListener('pointermove', (event) => { if (down) line(event); });
for (const end of ['pointerup', 'pointercancel'])
  canvas.addEventListener(end, () => { if (down) { down = false; props.value = canvas.toDataURL('image/png'); } });
element.querySelector('.wipe').addEventListener('click', () => { wipe(); props.value = ''; lock(false); });
// What is drawn while a drawing is under way would be wiped with it.
function lock(yes) { down = false; canvas.style.opacity = yes ? 0.4 : 1; canvas.style.pointerEvents = yes ? 'none' : ''; }
canvas.addEventListener('taken', () => lock(true));
canvas.addEventListener('ready', () => lock(false));
watch('value', () => { if (!props.value) wipe(); });
wipe();
"""


def canvas(identity: str, wipe: str) -> gr.HTML:
    """An empty canvas whose value is the text that `content` takes; ``wipe``: what its button says."""
    return gr.HTML(
        "", html_template=_TEMPLATE.replace("WIPE", wipe), css_template=_STYLE, js_on_load=_SCRIPT, elem_id=identity
    )


def locked(button: gr.Button, identity: str) -> None:
    """The canvas takes no strokes from a click of the button until `unlocked`."""
    button.click(None, js=_sent(identity, "taken"), api_visibility="private")


def unlocked(event: Any, identity: str) -> None:
    """The canvas takes strokes again when this event of a button is over, well or not."""
    for over in (event.success, event.failure):  # gradio's `then` does not come after an error
        over(None, js=_sent(identity, "ready"), api_visibility="private")


def _sent(identity: str, event: str) -> str:
    return f"() => {{ document.querySelector('#{identity} canvas').dispatchEvent(new Event('{event}')); }}"


def content(drawing: str | None) -> bytes:
    """The PNG file of a drawing.

    Raises:
        InputError: an empty canvas, or a value that no canvas gives.
    """
    import base64
    import binascii

    if not drawing:
        raise InputError("expected a drawing, got an empty canvas; draw something")
    try:
        if not drawing.startswith(_START):
            raise ValueError
        return base64.b64decode(drawing[len(_START) :], validate=True)
    except (binascii.Error, ValueError):
        raise InputError("expected a drawing, got something else; clear the canvas and draw again") from None
