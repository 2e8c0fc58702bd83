"""Points in images, folders, videos and cameras: drawings and COCO results come out."""

from fiducial import lazy

lazy.callable_room(__name__, "fiducial.api.predict:predict")
