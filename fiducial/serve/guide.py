"""The page /docs, for people who write clients. It is made of the interface's own description, of the limits, and of an answer
that is made as all answers are, so that it says what this server does."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np

from fiducial.geometry import Size
from fiducial.report.page import Commands, Figure, Page, Section, Table, render
from fiducial.serve import answers
from fiducial.serve.limits import Limits
from fiducial.types import Keypoints, Spread

SERVER = "http://SERVER"  # in the page, instead of the address that it is asked for at
FRAME = (
    "Coordinates are px of the upright image, as it is seen after its EXIF rotation: x to the right, y downwards, and the "
    "centre of the top left pixel is (0, 0). Boxes are measured from the image's outer edge: [0, 0, width, height] is the "
    "whole image. They are [x, y, width, height], as in COCO."
)
IMAGES = (
    "An image is a JPEG, PNG or WebP. Its bytes are the body itself, whatever the Content-Type, or a file of a form."
)
BATCH = (
    '/predict/batch answers {"images": [..]} with one such object an image. Points are those that the Python package finds, '
    "rounded to 1/1000 px."
)
REFUSALS = 'What is refused gets {"detail": "one line"} that says what was wrong and what was expected.'
CONNECTIONS = (
    "GET /model has them, too, under limits. Connections may be kept for many requests. "
    "Requests that come at the same time share the network, so a few connections are quicker than one."
)
CURL = """\
curl{header} --data-binary @photo.jpg '{server}/predict'
curl{header} -g --data-binary @photo.jpg '{server}/predict?boxes=[[40,30,120,150]]'
curl{header} -F images=@photo.jpg -F images=@photo.jpg -F 'boxes=[null,[[40,30,120,150]]]' '{server}/predict/batch'"""
PYTHON = """\
import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

headers = {{"Content-Type": "application/octet-stream"{header}}}
request = Request("{server}/predict", Path("photo.jpg").read_bytes(), headers)
try:
    answer = json.load(urlopen(request, timeout=60))
except HTTPError as refused:
    raise SystemExit(f"{{refused.code}}: {{json.load(refused)['detail']}}")
for point in answer["instances"][0]["points"]:
    print(point["name"], point["x"], point["y"], point["score"])"""
JAVASCRIPT = """\
import {{ readFile }} from "node:fs/promises";

const body = await readFile("photo.jpg");  // in a browser: a File or Blob
const boxes = JSON.stringify([[40, 30, 120, 150]]);
const response = await fetch(`{server}/predict?boxes=${{encodeURIComponent(boxes)}}`, {{
  method: "POST",
  body,{header}
}});
const answer = await response.json();
if (!response.ok) throw new Error(`${{response.status}}: ${{answer.detail}}`);
for (const {{ name, x, y, score }} of answer.instances[0].points) console.log(name, x, y, score);"""
HEADERS = {
    CURL: " -H 'Authorization: Bearer TOKEN'",
    PYTHON: ', "Authorization": "Bearer TOKEN"',
    JAVASCRIPT: '\n  headers: { Authorization: "Bearer TOKEN" },',
}


def page(interface: Mapping[str, Any], limits: Limits, with_token: bool) -> str:
    """Writes the page of an interface, as OpenAPI describes it."""
    operations = {
        f"{verb.upper()} {path}": operation
        for path, verbs in interface["paths"].items()
        for verb, operation in verbs.items()
    }
    requests = Table(("request", "for"), [(name, operation["summary"]) for name, operation in operations.items()])
    objects = _objects("Answer", interface["components"]["schemas"], "the answer")
    shown = Page(
        title="Fiducial for clients",
        answer=["Send an image, get points, as JSON.", interface["info"]["description"]],
        notes=_notes(with_token),
        sections=[
            Section("Examples", [*_examples(with_token), "An answer:", Commands([_answer()])]),
            Section("Coordinates", [FRAME]),
            Section("What is asked", [requests, IMAGES, *_parameters(operations)]),
            Section("What is answered", [*objects, BATCH]),
            Section("Refusals", [REFUSALS, _statuses(operations)]),
            Section("Limits of this server", [_limits(limits), CONNECTIONS]),
        ],
        shows_command=False,
    )
    return render(shown)


def at(page: str, address: str) -> str:
    """Puts in the address that the page was asked for at."""
    return page.replace(SERVER, html.escape(address.rstrip("/")))


def _notes(with_token: bool) -> list[str]:
    token = (
        "This server answers only those who send its token, as Authorization: Bearer TOKEN or as X-API-Key: TOKEN. "
        "Whoever runs it has the token. /, /docs, /openapi.json, /health and /ready are open."
    )
    browsers = (
        "Browsers let pages of other addresses send to this server, but not read its answers (it sends no CORS headers): "
        "have page and server behind one proxy."
    )
    return [*([token] if with_token else []), browsers]


def _examples(with_token: bool) -> Iterator[str | Commands]:
    for language, text in (("curl", CURL), ("Python", PYTHON), ("JavaScript (Node.js 18 or a browser)", JAVASCRIPT)):
        yield f"{language}:"
        yield Commands([text.format(server=SERVER, header=HEADERS[text] if with_token else "")])


def _answer() -> str:
    """An answer with one box and two points, made and encoded as all are."""
    xy = np.array([[[74.6, 101.076], [120.25, 99.5]]])
    spread = Spread(scale=(1.0, 1.0), shares=(0.9,), factors=(2.1,))
    points = Keypoints(xy, np.array([[0.97, 0.91]]), np.array([[[1.31, 1.72], [0.9, 1.05]]]), spread=spread)
    made = answers.answer(
        "eyes by rle on unet_base, onnxruntime", ("left_eye", "right_eye"), Size(640, 480), points, 3.1
    )
    text = msgspec.json.format(msgspec.json.encode(made), indent=0).decode()
    return re.sub(r'(\{"name"|"(?:size|instances|ms)")', r"\n  \1", text)


def _parameters(operations: Mapping[str, Any]) -> Iterator[Table]:
    """A table for each request that takes something: its parts, in the query or in a form."""
    for name, operation in operations.items():
        parts = [
            (f"{each['name']} (query)", each["schema"], each["description"]) for each in operation.get("parameters", ())
        ]
        form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
        parts += [
            (f"{part} (form)", schema, schema["description"]) for part, schema in form.get("properties", {}).items()
        ]
        yield Table(
            ("part", "type", "meaning"), [(part, _type(schema), text) for part, schema, text in parts], title=name
        )


def _objects(of: str, schemas: Mapping[str, Any], title: str, path: str = "") -> Iterator[Table]:
    """A table for each kind of object in an answer: its fields' names, types and meanings."""
    rows, inner = [], []
    for name, schema in schemas[of]["properties"].items():
        whole = next((kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"), schema)
        rows.append((name, _type(schema), schema.get("description", "")))
        part = whole.get("items", whole).get("$ref", "").rpartition("/")[2]
        if part:
            inner.append((part, f"{path}{name}{'[]' if 'items' in whole else ''}"))
    yield Table(("field", "type", "meaning"), rows, title)
    for part, place in inner:
        yield from _objects(part, schemas, place, f"{place}.")


def _type(schema: Mapping[str, Any]) -> str:
    """A type of JSON in words."""
    if "anyOf" in schema:
        return " or ".join(_type(kind) for kind in schema["anyOf"])
    if "prefixItems" in schema:
        return f"[{', '.join(_type(kind) for kind in schema['prefixItems'])}]"
    if schema.get("format") == "binary":
        return "file"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}s"
    return schema.get("type", "object")


def _statuses(operations: Mapping[str, Any]) -> Table:
    told = {
        status: response["description"]
        for operation in operations.values()
        for status, response in operation["responses"].items()
    }
    return Table(("status", "when"), [(status, told[status]) for status in sorted(told) if status != "200"])


def _limits(limits: Limits) -> Table:
    rows = [(each.name, getattr(limits, each.name), each.metadata["meaning"]) for each in fields(limits)]
    return Table(("limit", "value", "of"), [(name, Figure(f"{value:,}"), meaning) for name, value, meaning in rows])
