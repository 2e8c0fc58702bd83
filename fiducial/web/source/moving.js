"use strict";
// Pictures that move: a camera, a video's file. `next()` gives the newest frame as {picture, name, frame, seconds}, null at
// the end; `stop()` ends it. Errors are Errors whose message is for people.

async function openCamera() {
  if (!navigator.mediaDevices) throw new Error("Browsers give the camera only to https pages, to localhost and to files of this machine.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
  } catch (error) {
    const why = {
      NotAllowedError: "The camera was refused. Allow it for this page in the browser's settings, or choose a file.",
      NotFoundError: "There is no camera. Choose a file.",
      NotReadableError: "The camera is in use by another program. Close that, or choose a file.",
    };
    throw new Error(why[error.name] ?? `The camera can't be used: ${error.message}`);
  }
  const video = document.getElementById("video"), start = performance.now();
  video.srcObject = stream;
  await video.play();
  let frame = -1;
  return {
    kind: "camera",
    stop() { stream.getTracks().forEach((track) => track.stop()); video.srcObject = null; },
    async next() {
      const shown = await newest(video);
      if (!shown || !stream.active) return null;
      frame = Math.max(frame + 1, (shown.presentedFrames ?? 0) - 1);
      return { picture: await createImageBitmap(video), name: "camera", frame, seconds: (performance.now() - start) / 1000 };
    },
  };
}

async function openVideo(file) {
  const video = document.getElementById("video"), url = URL.createObjectURL(file);
  video.src = url;
  try {
    await video.play();
  } catch (error) {
    URL.revokeObjectURL(url);
    throw new Error(`${file.name || "This"} is not a video that the browser can play.`);
  }
  const opened = {
    kind: "video",
    frames: 0,   // that were looked at
    passed: 0,   // that were shown meanwhile
    paused: false,
    stop() { video.pause(); video.removeAttribute("src"); video.load(); URL.revokeObjectURL(url); },
    pause() {
      opened.paused = !opened.paused;
      if (opened.paused) video.pause(); else video.play();
    },
    async next() {
      const shown = await newest(video);
      if (shown === null) return null;
      const frame = (shown.presentedFrames ?? opened.frames + 1) - 1;
      opened.frames += 1;
      opened.passed = frame + 1 - opened.frames;
      const seconds = shown.mediaTime ?? video.currentTime;
      document.getElementById("when").textContent = `${seconds.toFixed(1)}${Number.isFinite(video.duration) ? ` of ${video.duration.toFixed(1)}` : ""} s`;
      return { picture: await createImageBitmap(video), name: file.name, frame, seconds };
    },
  };
  return opened;
}

// Waits for the next frame that a video shows: what the browser tells of it, null where there is none any more.
function newest(video) {
  if (video.ended) return Promise.resolve(null);
  return new Promise((resolve) => {
    const over = () => resolve(null);
    for (const name of ["ended", "emptied", "error"]) video.addEventListener(name, over, { once: true });
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback((now, about) => resolve(about));
    else requestAnimationFrame(() => resolve({}));
  });
}
