"""Procedural faces: the embedded data set. Pictures of made-up heads with iBUG-68 points, drawn when they are read; one to an
image (`faces.py`), or several (`crowd.py`)."""

from fiducial.drawnfaces.crowd import procedural_crowds
from fiducial.drawnfaces.faces import Face, ProceduralImages, face_points, procedural_faces, render_face

__all__ = ["Face", "ProceduralImages", "face_points", "procedural_crowds", "procedural_faces", "render_face"]
