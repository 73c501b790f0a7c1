"""Fuse videos frame by frame: two files, or one that shows both side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student.errors import ImageError
from student.files import replaced
from student.fuse.files import Aligner, refuse_inputs
from student.fuse.fuser import Fuser
from student.sixteen_bit import Scale, to_levels, to_unit

__all__ = ["SIDES", "VIDEOS", "WRITTEN", "fuse_video"]

VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
"""Endings of files that are taken for videos."""

WRITTEN = (".avi", ".m4v", ".mkv", ".mov", ".mp4")
"""Endings of those that can be written; the other containers lose the times of H.264, or do not take it."""

SIDES = ("ir-left", "ir-right")
"""Where the infrared half of a video with both side by side lies."""

_QUALITY = {"crf": "17", "bf": "0"}
"""H.264 without loss that is seen, and with frames in their own order: AVI has no times to tell another."""

_RATES_DIFFER = 5e-4
"""What counts as another rate; cameras and containers write 30000/1001 in several ways."""

_BT601 = 5
"""The colour matrix that frames are encoded with; players guess another one for large pictures."""

_AS_STATED = Scale()


def fuse_video(
    fuser: Fuser,
    *,
    ir_path: Path,
    vis_path: Path,
    out_path: Path,
    side_by_side: str | None = None,
    scale: Scale = _AS_STATED,
    aligner: Aligner | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda frames, count: frames,
) -> tuple[int, int]:
    """Fuse a video into another, with the times, colours and size of the visible one; 8 bits, H.264, no sound.

    Args:
        fuser: What fuses.
        ir_path: Infrared video.
        vis_path: Visible video of as many frames and the same frame rate; the same file with ``side_by_side``.
        out_path: The video to write, whole or not at all; its ending tells the container.
        side_by_side: Where the infrared half is, one of `SIDES`, where one file shows both.
        scale: How 16-bit grey values become levels.
        aligner: Brings an infrared frame onto the visible one; see `student.fuse.fuse_files`.
        progress: Progress display over the frames, given their number (0 where the file does not say).

    Returns:
        Number of frames, and of the pixels of all.

    Raises:
        ImageError: A video cannot be read or written; the two differ in size, frame rate or number of frames; PyAV is
            not installed.
    """
    refuse_inputs([out_path], [ir_path, vis_path])
    av = _import_av()
    try:
        with av.open(str(vis_path)) as vis_file, av.open(str(ir_path)) as ir_file, replaced(out_path) as part:
            streams = [_stream(file, path) for file, path in ((ir_file, ir_path), (vis_file, vis_path))]
            _refuse_other_rate([stream.average_rate for stream in streams], (ir_path, vis_path))
            pairs = _pairs(ir_file, vis_file, side_by_side, scale, (ir_path, vis_path))
            fused = (
                (frame, _fuse_frame(fuser, ir, vis, aligner, f"{ir_path} and {vis_path}, frame {number}"))
                for number, (frame, ir, vis) in enumerate(progress(pairs, streams[1].frames), start=1)
            )
            with av.open(str(part), "w") as out:
                count, pixels = _encode(av, out, fused, streams[1], vis_path)
            if not count:
                raise ImageError(f"{vis_path} has no frames")
            return count, pixels
    except (av.error.FFmpegError, OSError) as error:
        read = error.filename in (str(ir_path), str(vis_path))
        place = error.filename if read else f"{vis_path}, {ir_path} or {out_path}"
        raise ImageError(f"{place}: not read or written as a video, {error.strerror or error}") from error


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImageError('videos need PyAV; in the folder of fusion-env: pip install -e ".[video]"') from error
    return av


def _stream(file: Any, path: Path) -> Any:
    if not file.streams.video:
        raise ImageError(f"{path} holds no video")
    stream = file.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _refuse_other_rate(rates: Sequence[Fraction | None], paths: tuple[Path, Path]) -> None:
    ir, vis = rates
    if ir == vis or (ir and vis and abs(ir / vis - 1) < _RATES_DIFFER):
        return
    told = ["an unknown number of" if rate is None else f"{float(rate):.3f}" for rate in rates]
    raise ImageError(
        f"{paths[0]} has {told[0]} frames a second and {paths[1]} {told[1]}; bring both to one rate first, so that "
        "frames of one moment belong together"
    )


def _pairs(
    ir_file: Any, vis_file: Any, side_by_side: str | None, scale: Scale, paths: tuple[Path, Path]
) -> Iterator[tuple[Any, NDArray[Any], NDArray[Any]]]:
    """Yield each visible frame with both pictures."""
    if side_by_side:
        for frame in vis_file.decode(video=0):
            picture = _picture(frame, to_levels, scale, paths[1])
            half, odd = divmod(picture.shape[1], 2)
            if odd:
                raise ImageError(f"{paths[1]} is {picture.shape[1]} pixels wide, which has no two equal halves")
            halves = picture[:, :half], picture[:, half:]
            ir, vis = halves if side_by_side == SIDES[0] else halves[::-1]
            yield frame, np.ascontiguousarray(ir), np.ascontiguousarray(vis)
        return
    moments = zip_longest(ir_file.decode(video=0), vis_file.decode(video=0))
    for count, (ir_frame, frame) in enumerate(moments):
        if ir_frame is None or frame is None:
            short, long = paths if ir_frame is None else paths[::-1]
            raise ImageError(
                f"{short} ends after {count} frames and {long} goes on; cut both to the same moments first"
            )
        yield frame, _picture(ir_frame, to_unit, scale, paths[0]), _picture(frame, to_levels, scale, paths[1])


def _picture(frame: Any, convert: Callable[..., NDArray[Any]], scale: Scale, path: Path) -> NDArray[Any]:
    """Return a frame upright: RGB with 8 bits, or what 16-bit grey values are converted to."""
    if frame.format.name.startswith("gray16"):
        try:
            pixels = convert(frame.to_ndarray(format="gray16le").astype(np.int32), 65535, scale)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
    else:
        pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))


def _fuse_frame(fuser: Fuser, ir: NDArray[Any], vis: NDArray[Any], aligner: Aligner | None, place: str) -> NDArray[Any]:
    try:
        return fuser(ir=ir if aligner is None else aligner(ir=ir, vis=vis), vis=vis)
    except ValueError as error:
        raise ImageError(f"{place}: {error}") from error


def _encode(av: Any, out: Any, frames: Iterable[tuple[Any, NDArray[Any]]], visible: Any, path: Path) -> tuple[int, int]:
    """Write frames with the times of their sources, and return how many, and their pixels."""
    stream, before, count, pixels = None, None, 0, 0
    for source, picture in frames:
        height, width = picture.shape[:2]
        if stream is None:
            stream = out.add_stream("libx264", rate=visible.average_rate, options=_QUALITY)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"  # the former has colour for 2 x 2
            stream.codec_context.colorspace = _BT601
            if out.format.name != "avi":
                stream.codec_context.time_base = source.time_base
            if shape := visible.sample_aspect_ratio:
                stream.codec_context.sample_aspect_ratio = 1 / shape if source.rotation % 180 else shape
        if out.format.name == "avi" and _uneven(before, source.time, visible.average_rate):
            raise ImageError(
                f"frame {count + 1} of {path} is not one even step after the one before, and AVI has one rate only: "
                "let the result end in .mp4, .mkv or .mov"
            )
        before = source.time
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.ndim == 3 else "gray")
        frame.pts, frame.time_base = source.pts, source.time_base
        out.mux(stream.encode(frame))
        count, pixels = count + 1, pixels + height * width
    if stream is not None:
        out.mux(stream.encode())
    return count, pixels


def _uneven(before: float | None, now: float | None, rate: Fraction | None) -> bool:
    """Tell whether two frames are not one step of the rate apart, as far as the file says."""
    return before is not None and now is not None and rate is not None and abs((now - before) * rate - 1) > 0.5
