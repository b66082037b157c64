"""The camera of the visitor's computer or phone: on when it is asked for, off once a picture is taken."""

from __future__ import annotations

import json

import gradio as gr

from innerloop.serving.texts import Texts

_SIDE = 640  # pixels of the longer side of a picture, which learners take smaller

_TEMPLATE = """<video playsinline muted hidden aria-label="CAMERA"></video><img hidden alt="TAKEN">
<button type="button">TURN_ON</button><p role="status"></p>"""

_STYLE = """video, img { display: block; width: min(100%, 320px); margin: 0 auto; border-radius: var(--radius-sm); }
[hidden] { display: none; }
button { display: block; margin: 8px auto; padding: 8px 16px; cursor: pointer; color: var(--body-text-color);
  background: var(--button-secondary-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-md); }
p { text-align: center; } p:empty { display: none; }"""

# The value is the picture as a data URL, as `content` of the canvas takes it; the page empties it once it was taken over.
_SCRIPT = """
const said = SAID, side = SIDE;
const video = element.querySelector('video'), still = element.querySelector('img');
const button = element.querySelector('button'), line = element.querySelector('p');
let stream = null;
function off() { if (stream) stream.getTracks().forEach((track) => track.stop()); stream = null; video.hidden = true; }
function fresh() { still.hidden = true; button.textContent = said.turn_on; }
button.addEventListener('click', async () => {
  line.textContent = '';
  if (stream) {
    const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight)), sheet = document.createElement('canvas');
    sheet.width = Math.round(video.videoWidth * scale); sheet.height = Math.round(video.videoHeight * scale);
    sheet.getContext('2d').drawImage(video, 0, 0, sheet.width, sheet.height);
    off(); still.src = sheet.toDataURL('image/png'); still.hidden = false;
    button.textContent = said.another; props.value = still.src;
    return;
  }
  if (!navigator.mediaDevices) { line.textContent = said.not_here; return; }
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    video.srcObject = stream; video.hidden = false; still.hidden = true; await video.play();
    button.textContent = said.take;
  } catch (error) { off(); fresh(); line.textContent = said.none + ' (' + error.name + ')'; }
});
watch('value', () => { if (!props.value) fresh(); });
"""


def camera(identity: str, texts: Texts) -> gr.HTML:
    """A camera that is off, whose value is the text that `content` of the canvas takes."""
    said = {
        "turn_on": texts.turn_on,
        "take": texts.take_picture,
        "another": texts.take_another,
        "not_here": texts.no_camera_here,
        "none": texts.no_camera,
    }
    template = _TEMPLATE.replace("TURN_ON", texts.turn_on).replace("CAMERA", texts.camera)
    script = _SCRIPT.replace("SAID", json.dumps(said)).replace("SIDE", str(_SIDE))
    return gr.HTML(
        "",
        html_template=template.replace("TAKEN", texts.taken),
        css_template=_STYLE,
        js_on_load=script,
        elem_id=identity,
    )
