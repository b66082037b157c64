"""The page that describes the HTTP interface and tries it, made from its OpenAPI document; it loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 56rem; padding: 1rem; overflow-wrap: break-word; }
section { border: 1px solid var(--line); border-radius: 8px; margin: 1.5rem 0; padding: 0 1rem 1rem; }
h2 code { font-size: 1.1rem; }
code, pre, textarea, input { font-family: ui-monospace, monospace; font-size: .9rem; }
pre { background: var(--soft); border-radius: 6px; padding: .6rem; white-space: pre-wrap; word-break: break-word; }
pre:empty { display: none; }
dl { margin: .5rem 0; } dt { font-weight: 600; margin-top: .4rem; } dd { margin: 0 0 0 1rem; }
textarea, input[type=text] { width: 100%; padding: .4rem; }
button { font: inherit; margin: .5rem 0; min-height: 2.5rem; padding: .3rem 1rem; }
summary { cursor: pointer; padding: .4rem 0; }
"""

# A form knows by its data where it sends what, and shows the status and the answer, or offers a file for saving.
_SCRIPT = """
for (const form of document.querySelectorAll('form')) form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const out = form.querySelector('pre'), text = form.querySelector('textarea'), key = form.querySelector('input[type=text]');
  const file = form.querySelector('input[type=file]'), request = {method: form.dataset.method};
  out.textContent = '...';
  if (text) { request.body = text.value; request.headers = {'content-type': 'application/json'}; }
  if (file) { request.body = file.files[0]; request.headers = {'content-type': 'application/octet-stream'}; }
  try {
    const path = key ? form.dataset.path.replace(/{.*}/, encodeURIComponent(key.value)) : form.dataset.path;
    const answer = await fetch(path, request);
    if (answer.ok && !(answer.headers.get('content-type') || '').includes('json')) {
      const link = document.createElement('a');
      link.href = URL.createObjectURL(await answer.blob()); link.download = 'task.il'; link.click();
      out.textContent = answer.status + ' task.il';
    } else out.textContent = answer.status + '\\n' + JSON.stringify(await answer.json(), null, 2);
  } catch (error) { out.textContent = String(error); }
});
"""


def reference_page(document: Mapping[str, Any]) -> str:
    """The page, as HTML, of an OpenAPI document."""
    about = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<title>{_text(about['title'])}: HTTP</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{_text(about['title'])} over HTTP</h1><p>{_text(about.get('description', ''))}</p>",
        '<p>The same as a document for programs: <a href="/openapi.json">/openapi.json</a>. '
        'The page to draw and to ask: <a href="/">/</a>.</p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(document, path, method, operation))
    parts.append(f"</main><script>{_SCRIPT}</script></body></html>")
    return "\n".join(parts)


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    sent = (operation.get("requestBody") or {}).get("content", {})
    asked = _schema(document, sent.get("application/json"))
    given = _schema(document, operation["responses"]["200"].get("content", {}).get("application/json"))
    label = f"{method.upper()} {path}"
    keys = [p["name"] for p in operation.get("parameters", ())]
    parts = [f"<section><h2><code>{_text(label)}</code></h2><p>{_text(operation.get('summary', ''))}"]
    parts.append(f". {_text(operation['description'])}</p>" if operation.get("description") else "</p>")
    if asked:
        parts.append(f"<h3>What it takes</h3>{_fields(asked)}")
    if given:
        parts.append(f"<details><summary>What it answers</summary>{_fields(given)}</details>")
    parts.append(f'<details><summary>Try it</summary><form data-method="{method.upper()}" data-path="{_text(path)}">')
    if asked:
        sample = json.dumps({name: [] for name in ("x", "y")} if "y" in asked["properties"] else {"task": "", "x": []})
        parts.append(f'<textarea rows="6" aria-label="the body of {_text(label)}">{_text(sample)}</textarea>')
    elif sent:
        parts.append(f'<input type="file" required aria-label="the file for {_text(label)}">')
    parts += [f'<input type="text" required aria-label="{_text(k)}" placeholder="{_text(k)}">' for k in keys]
    parts.append('<button>Send</button><pre aria-live="polite"></pre></form></details></section>')
    return "".join(parts)


def _fields(schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    found = ["<dl>"]
    for name, field in schema["properties"].items():
        said = _text(field.get("description", ""))
        more = ", required" if name in needed else ""
        found.append(f"<dt><code>{_text(name)}</code> <small>{_text(_type(field))}{more}</small></dt><dd>{said}</dd>")
    return "".join([*found, "</dl>"])


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}" if field.get("items") else "list"
    return str(field.get("type", "anything"))


def _schema(document: Mapping[str, Any], content: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The schema of a body, looked up where it is a reference."""
    schema = (content or {}).get("schema", {})
    place = schema.get("$ref", "").rpartition("/")[2]
    found = document["components"]["schemas"][place] if place else schema
    return found if "properties" in found else None


def _text(value: Any) -> str:
    return html.escape(str(value))
