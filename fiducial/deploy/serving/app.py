"""The HTTP interface of a model: picture in, points out, as JSON; many requests share the network's batches."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

import fiducial
from fiducial import config, geometry
from fiducial.data import crops as cutting
from fiducial.deploy.runtime import Runtime
from fiducial.deploy.serving.batching import Batcher
from fiducial.deploy.serving.measures import Measures
from fiducial.deploy.serving.pictures import Limits, Refused, boxes_of, boxes_of_each, picture_of
from fiducial.geometry import Size
from fiducial.types import Keypoints

BOXES = {
    "name": "boxes", "in": "query", "required": False, "schema": {"type": "string"},
    "description": "JSON [[x, y, width, height], ..], px of the upright picture from its outer edge; none = the whole picture",
}  # fmt: skip
HEATMAP = {
    "name": "heatmap", "in": "query", "required": False, "schema": {"type": "boolean"},
    "description": "Also the highest of all points' maps over the first crop, as PNG, where the model has maps",
}  # fmt: skip
BINARY = {"schema": {"type": "string", "format": "binary"}}
ONE = {
    "parameters": [BOXES, HEATMAP],
    "requestBody": {"required": True, "content": {
        "image/jpeg": BINARY, "image/png": BINARY, "application/octet-stream": BINARY,
        "multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": {
            "image": {"type": "string", "format": "binary"}, "boxes": {"type": "string"}}}},
    }},
}  # fmt: skip
MANY = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
        "type": "object", "required": ["images"], "properties": {
            "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "boxes": {"type": "string", "description": "JSON: a list with the boxes, or null, of each image"}}}}}},
}  # fmt: skip
REFUSALS = {
    code: {"description": text}
    for code, text in {
        400: "The request can't be read.", 413: "Too many bytes or pixels.", 415: "Neither JPEG nor PNG.",
        422: "A broken picture or wrong boxes.", 429: "Too many requests at a time; try again after a second.",
        504: "Not answered in time.",
    }.items()
}  # fmt: skip


class Service:
    """A loaded model with what its requests share."""

    def __init__(self, run: Runtime, limits: Limits) -> None:
        self.run, self.limits = run, limits
        self.measures = Measures()
        self.batcher = Batcher(run.network, limits.max_batch, self.measures.batch)
        self.measures.watch_queue(self.batcher.waiting)
        self.workers = ThreadPoolExecutor(thread_name_prefix="fiducial-decode")
        self.in_flight = 0

    def stop(self) -> None:
        """After the last request."""
        self.batcher.stop()
        self.workers.shutdown()

    async def points(self, data: bytes, boxes: np.ndarray | None, name: str, heatmap: bool = False) -> dict[str, Any]:
        """What is answered for one picture."""
        loop = asyncio.get_running_loop()
        spec = self.run.card.spec

        def prepared() -> tuple[Size, np.ndarray, np.ndarray]:
            picture = picture_of(data, self.limits, name)
            return Size(picture.shape[1], picture.shape[0]), *cutting.cut(picture, boxes, spec.size, spec.padding)

        size, crops, image_to_crop = await loop.run_in_executor(self.workers, prepared)
        found = await asyncio.wrap_future(self.batcher.submit(crops))
        answer = self._answer(size, found.mapped(geometry.invert(image_to_crop)))
        if heatmap and len(crops):
            answer["heatmap"] = await loop.run_in_executor(self.workers, self._heatmap, crops[:1], image_to_crop[0])
        return answer

    def _answer(self, size: Size, found: Keypoints) -> dict[str, Any]:
        xy, score = np.round(found.xy.astype(float), 3).tolist(), np.round(found.score.astype(float), 5).tolist()
        instances: list[dict[str, Any]] = [{"xy": a, "score": b} for a, b in zip(xy, score, strict=True)]
        if found.sigma is not None:
            for instance, sigma in zip(instances, np.round(found.sigma.astype(float), 3).tolist(), strict=True):
                instance["sigma"] = sigma
        return {"width": size.w, "height": size.h, "points": self.run.skeleton.points, "instances": instances}

    def _heatmap(self, crop: np.ndarray, image_to_crop: np.ndarray) -> dict[str, Any] | None:
        maps = getattr(self.run.network, "heatmaps", lambda crops: None)(crop)
        if maps is None:
            return None
        highest = np.clip(maps[0].max(0) * 255, 0, 255).astype(np.uint8)
        coded = cv2.imencode(".png", highest)[1].tobytes()
        spec = self.run.card.spec
        corners = geometry.transform(
            geometry.invert(image_to_crop), geometry.box_corners(geometry.whole_image_box(spec.size))
        )
        low, high = corners.min(0) + 0.5, corners.max(0) + 0.5
        return {"png": base64.b64encode(coded).decode(), "box": [*low.tolist(), *(high - low).tolist()]}


def create(run: Runtime, limits: Limits | None = None) -> FastAPI:
    """The application; its `state.service` is the Service."""
    service = Service(run, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()

    app = FastAPI(
        title="Fiducial", version=fiducial.__version__, lifespan=lifespan,
        description=f"Keypoints `{run.skeleton.name}` ({len(run.skeleton.points)} points) by "
        f"{run.card.spec.method} on {run.card.spec.backbone}, run by {run.network.runtime}.",
    )  # fmt: skip
    app.state.service = service
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")

    @app.post("/predict", summary="Points of one picture", openapi_extra=ONE, responses=REFUSALS)
    async def predict(request: Request) -> Response:
        async def work() -> dict[str, Any]:
            heatmap = request.query_params.get("heatmap", "").lower() in ("1", "true", "yes")
            text = request.query_params.get("boxes")
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                async with request.form(max_files=1, max_fields=4) as form:
                    data = await _file(form.get("image"), "image")
                    given = form.get("boxes")
                    text = given if isinstance(given, str) else text
            else:
                data = await request.body()
            return await service.points(data, boxes_of(text, service.limits), "image", heatmap)

        return await _answered(service, request, "predict", work)

    @app.post("/predict/batch", summary="Points of several pictures", openapi_extra=MANY, responses=REFUSALS)
    async def predict_batch(request: Request) -> Response:
        async def work() -> dict[str, Any]:
            if not request.headers.get("content-type", "").startswith("multipart/form-data"):
                raise Refused(415, "expected multipart/form-data with files `images`")
            async with request.form(max_files=service.limits.max_images + 1, max_fields=4) as form:
                files = form.getlist("images")
                if not files or len(files) > service.limits.max_images:
                    raise Refused(422, f"images: expected 1 to {service.limits.max_images} files, got {len(files)}")
                named = [(await _file(file, f"images[{i}]"), f"images[{i}]") for i, file in enumerate(files)]
                text = form.get("boxes")
            boxes = boxes_of_each(text if isinstance(text, str) else None, len(named), service.limits)
            tasks = (service.points(data, each, name) for (data, name), each in zip(named, boxes, strict=True))
            return {"images": await asyncio.gather(*tasks)}

        return await _answered(service, request, "predict_batch", work)

    @app.get("/model", summary="What the model is")
    async def model() -> Response:
        card = config.to_dict(run.card)
        maps = callable(getattr(run.network, "heatmaps", None))
        return _json({"runtime": run.network.runtime, "heatmaps": maps, **card})

    @app.get("/health", summary="Whether the server is alive, and what it holds")
    async def health() -> Response:
        return _json({"status": "ok", "in_flight": service.in_flight, "waiting": service.batcher.waiting()})

    @app.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        return PlainTextResponse(service.measures.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page)

    return app


async def _answered(
    service: Service, request: Request, endpoint: str, work: Callable[[], Awaitable[dict[str, Any]]]
) -> Response:
    """The answer within the limits of concurrency, bytes and time, or the refusal as {"detail": ..}."""
    start = time.perf_counter()
    if service.in_flight >= service.limits.max_in_flight:
        service.measures.request(endpoint, 429, 0.0)
        return _json({"detail": "too many requests at a time; try again after a second"}, 429, {"Retry-After": "1"})
    service.in_flight += 1
    try:
        _check_length(request, service.limits)
        response = _json(await asyncio.wait_for(work(), service.limits.timeout_s))
    except Refused as refusal:
        response = _json({"detail": refusal.detail}, refusal.status)
    except (MultiPartException, ClientDisconnect) as error:
        response = _json({"detail": f"the request can't be read: {error}"}, 400)
    except asyncio.TimeoutError:  # before Python 3.11 not the built-in one
        response = _json({"detail": f"not answered within {service.limits.timeout_s:g} s"}, 504)
    finally:
        service.in_flight -= 1
    service.measures.request(endpoint, response.status_code, time.perf_counter() - start)
    return response


def _check_length(request: Request, limits: Limits) -> None:
    """By what the client declares, and then by what it sends."""
    too_many = Refused(413, f"more than the limit of {limits.max_bytes} bytes")
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limits.max_bytes:
        raise too_many
    receive, seen = request._receive, 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limits.max_bytes:
            raise too_many
        return message

    request._receive = counted


async def _file(part: Any, name: str) -> bytes:
    if part is None or isinstance(part, str):
        raise Refused(422, f"{name}: expected a file")
    return await part.read()


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
