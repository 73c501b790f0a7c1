"""Fusing with a student: in memory (`load`, `fuse`), files and folders (`fuse_files`, `fuse_folders`), videos.

Imported as a name, ``student.fuse`` is the function; what stands here is imported from it:
``from student.fuse import fuse_files``.
"""

from student.fuse.alignment import Alignment, AlignmentError, align
from student.fuse.colour import fuse_images
from student.fuse.command import main
from student.fuse.files import Interrupted, Outcome, PairingError, fuse_files, fuse_folders, pair_files
from student.fuse.fuser import Fuser, fuse, load
from student.fuse.tiling import fuse_tiled
from student.fuse.video import fuse_video

__all__ = [
    "Alignment",
    "AlignmentError",
    "Fuser",
    "Interrupted",
    "Outcome",
    "PairingError",
    "align",
    "fuse",
    "fuse_files",
    "fuse_folders",
    "fuse_images",
    "fuse_tiled",
    "fuse_video",
    "load",
    "main",
    "pair_files",
]
