"""The HTTP interface of a model: images in, points out, as JSON. What is wrong with a request is said in one line,
{"detail": ..}; there are no paths and no URLs to read from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fiducial import config
from fiducial.runtime.runtime import Runtime
from fiducial.serve import guide
from fiducial.serve.access import Guard
from fiducial.serve.answers import Answer, Answers, Refusal
from fiducial.serve.bodies import Body
from fiducial.serve.boxes import boxes_of, boxes_of_each
from fiducial.serve.limits import Limits, Refused, no_room
from fiducial.serve.service import Service
from fiducial.version import __version__
from fiducial.web import pages

FILE = {"type": "string", "format": "binary"}
BOXES = "JSON [[x, y, width, height], ..], px of the upright image from its outer edge; without it what the model's finder finds, or the whole image"
PARAMETERS = [
    {
        "name": "boxes",
        "in": "query",
        "schema": {"type": "string", "example": "[[10, 20, 200, 200]]"},
        "description": BOXES,
    },
    {
        "name": "heatmap",
        "in": "query",
        "schema": {"type": "boolean"},
        "description": "Also the heatmap of the first box, where the model has one (GET /model says so)",
    },
]
ONE_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {**FILE, "description": "JPEG, PNG or WebP"},
        "boxes": {"type": "string", "description": BOXES},
    },
}
MANY_FORM = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {"type": "array", "items": FILE, "description": "several files of this name"},
        "boxes": {
            "type": "string",
            "description": "JSON: a list with the boxes, or null, of each image: [null, [[x, y, width, height], ..], ..]",
        },
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "model": Refusal}
    for code, text in {
        400: "The request can't be read.",
        401: "No token, or another one (servers with a token alone).",
        408: "It did not arrive in time.",
        413: "Too many bytes; too many pixels, as the image's decoder counts them before it allocates.",
        415: "Neither JPEG, PNG nor WebP.",
        422: "A broken image, or one that takes too long to decode; wrong boxes.",
        503: "Too much at a time, or not answered in time: try again after `Retry-After`; or the server is stopping.",
    }.items()
}
# The page holds all that it needs; a browser is told to fetch nothing else.
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob:; "
    "connect-src 'self'"
)


def create(run: Runtime, limits: Limits | None = None, token: str = "") -> FastAPI:
    """Makes the application; its `state.service` is the Service, which ends with the application's lifespan. With a `token`
    only clients that send it are answered."""
    service = Service(run, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()

    # Its own pages of the interface load scripts from elsewhere.
    app = FastAPI(
        title="Fiducial",
        version=__version__,
        description=f"{service.title}.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        """A bug of ours, or the network's; uvicorn logs where."""
        return _json({"detail": "the server failed; its log says where"}, 500)

    if token:
        app.add_middleware(Guard, token=token)
    _add_predictions(app, service)
    _add_facts(app, service)
    app.add_api_route("/docs", _docs(app, service, bool(token)), include_in_schema=False)
    return app


def _docs(app: FastAPI, service: Service, with_token: bool) -> Callable[[Request], Awaitable[Response]]:
    """Makes the page for people who write clients, when it is first asked for."""
    page = cache(lambda: guide.page(app.openapi(), service.limits, with_token))

    async def docs(request: Request) -> Response:
        return Response(
            guide.at(page(), str(request.base_url)),
            media_type="text/html",
            headers={"Content-Security-Policy": PAGE_POLICY},
        )

    return docs


def _add_predictions(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post(
        "/predict",
        summary="Points of one image",
        responses={200: {"model": Answer}, **REFUSALS},
        openapi_extra={
            "parameters": PARAMETERS,
            "requestBody": {
                "required": True,
                "content": {
                    **{
                        kind: {"schema": FILE}
                        for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
                    },
                    "multipart/form-data": {"schema": ONE_FORM},
                },
            },
        },
    )
    async def predict(request: Request) -> Response:
        """The image is the body, or the file `image` of a form."""

        async def work(body: bytes) -> Answer:
            text = request.query_params.get("boxes")
            if _is_form(request):
                form = await _form(request, body, most_files=1)
                text, body = _text(form, "boxes") or text, await _file(form.get("image"), "image")
            heatmap = request.query_params.get("heatmap", "").lower() in ("1", "true", "yes")
            return await service.answer(body, boxes_of(text, limits), heatmap=heatmap)

        return await _answered(service, request, "predict", work)

    @app.post(
        "/predict/batch",
        summary="Points of several images",
        responses={200: {"model": Answers}, **REFUSALS},
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": MANY_FORM}}}},
    )
    async def predict_batch(request: Request) -> Response:
        async def work(body: bytes) -> Answers:
            if not _is_form(request):
                raise Refused(415, "expected multipart/form-data with the images as files `images`")
            form = await _form(request, body, most_files=limits.max_images + 1)
            files = form.getlist("images")
            if not 1 <= len(files) <= limits.max_images:
                raise Refused(422, f"images: expected 1 to {limits.max_images} files, got {len(files)}")
            uploads = {f"images[{i}]": await _file(file, f"images[{i}]") for i, file in enumerate(files)}
            boxes = boxes_of_each(_text(form, "boxes"), len(uploads), limits)
            waiting = [
                service.answer(data, of_image, name)
                for (name, data), of_image in zip(uploads.items(), boxes, strict=True)
            ]
            return Answers(list(await asyncio.gather(*waiting)))

        return await _answered(service, request, "predict_batch", work)


def _add_facts(app: FastAPI, service: Service) -> None:
    page = pages.served()

    @app.get("/model", summary="The model's card: skeleton, size, method, licence, metrics")
    async def model() -> Response:
        run = service.run
        about = {"title": service.title, "runtime": run.network.runtime, "heatmaps": service.has_heatmaps}
        about["terms"] = run.card.terms
        about["finder"] = (
            None if run.finder is None else {"size": run.finder.spec.size, "min_score": run.finder.threshold}
        )
        return _json({**about, "limits": service.limits, **config.to_dict(run.card)})

    @app.get("/health", summary="Whether the server is alive")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/ready", summary="Whether it takes requests: 503 when it is full or stopping")
    async def ready() -> Response:
        return _json({"ready": service.ready, "in_flight": service.in_flight}, 200 if service.ready else 503)

    @app.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        return Response(service.counters.text(), media_type=service.counters.media_type)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


async def _answered(
    service: Service, request: Request, endpoint: str, work: Callable[[bytes], Awaitable[Answer | Answers]]
) -> Response:
    """The body, read and worked on within the limits, answered or refused; measured in any case."""
    start, arrived, status = time.perf_counter(), False, 500

    async def whole(body: Body) -> Answer | Answers:
        nonlocal arrived
        data = await _arrived(request, service.limits, body)
        arrived = True
        with service.admitted():
            return await work(data)

    try:
        if service.draining:
            raise Refused(503, "the server is stopping", {"Connection": "close"})
        with service.bodies.another() as body:
            response = _json(await asyncio.wait_for(whole(body), service.limits.timeout_s))
        status = 200
    except asyncio.TimeoutError:  # before Python 3.11 not the built-in one
        status, late = (503, "not answered") if arrived else (408, "the request did not arrive")
        headers = {"Retry-After": "1"} if arrived else {"Connection": "close"}
        response = _json({"detail": f"{late} within {service.limits.timeout_s:g} s"}, status, headers)
    except Refused as refused:
        status = refused.status
        response = _json({"detail": refused.detail}, status, refused.headers)
    finally:
        service.counters.request(endpoint, status, time.perf_counter() - start)
    return response


async def _arrived(request: Request, limits: Limits, body: Body) -> bytes:
    """The whole body, by what the client declares and then by what it sends not above the limit."""
    too_large = Refused(
        413, f"the request is too large; the limit is {limits.max_bytes} bytes", {"Connection": "close"}
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 15 or int(declared) > limits.max_bytes:
        raise too_large
    try:
        async for chunk in request.stream():
            if body.size + len(chunk) > limits.max_bytes:
                raise too_large
            body.add(chunk)
    except ClientDisconnect as gone:
        raise Refused(400, "the client went away") from gone
    return body.whole()


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def _form(request: Request, body: bytes, most_files: int) -> FormData:
    """The fields of a body that was read."""

    async def again() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        return await Request(request.scope, again).form(max_files=most_files, max_fields=4)
    except HTTPException as error:
        raise Refused(400, f"the form can't be read: {error.detail}") from error
    except OSError as error:  # large files of a form are on the disk for a moment
        raise no_room(error) from error


async def _file(part: UploadFile | str | None, name: str) -> bytes:
    if not isinstance(part, UploadFile):
        raise Refused(422, f"{name}: expected a file")
    return await part.read()


def _text(form: FormData, name: str) -> str | None:
    """A field's text; Refused where it came as a file."""
    value = form.get(name)
    if isinstance(value, UploadFile):
        raise Refused(422, f"{name}: expected text, not a file")
    return value


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
