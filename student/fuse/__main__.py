"""The old door to `fusion-student fuse` for folders, with its own names of the options."""

import sys

from student.fuse.command import main
from student.large_pages import ask_for_large_pages

if __name__ == "__main__":
    ask_for_large_pages()
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # what is done has been told
        sys.exit(130)
