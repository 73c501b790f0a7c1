"""How every page of a table or figure begins."""

import platform

import torch

__all__ = ["head"]


def head(title: str, command: str, seconds: float | None = None) -> list[str]:
    """Return the paragraphs of title, command, and machine with the time that the work took on it.

    Args:
        title: Of the page.
        command: How it was called; empty: nothing is said.
        seconds: Time of the work, whatever else the machine did meanwhile.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    time = "" if seconds is None else f"; {seconds:.0f} s of work"
    machine = f"torch {torch.__version__}, {device}, {torch.get_num_threads()} CPU thread(s){time}."
    return [f"# {title}", *([f"    {command}"] if command else []), machine]
