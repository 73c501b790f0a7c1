"""The old door to `fusion-student fuse` for folders, with its own names of the options."""

import sys

from student.fuse.command import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # what is done has been told
        sys.exit(130)
