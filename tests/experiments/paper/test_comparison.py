"""Enlarged details: where they are, and what they show."""

import torch

from experiments.paper.comparison import Box, salient_boxes, with_details
from fusion_env.data import ImagePair


def test_details_lie_where_the_sources_vary() -> None:
    ir, vis = torch.full((1, 100, 120), 50, dtype=torch.uint8), torch.full((3, 100, 120), 50, dtype=torch.uint8)
    ir[0, 10:20, 30:40] = 255
    vis[:, 10:22, 30:42] = 200  # the same place, and less elsewhere
    vis[:, 70:80, 90:100] = 150
    first, second = salient_boxes(ImagePair("a", ir, vis))
    assert first.side == second.side == 18
    assert holds(first, top=12, bottom=18, left=32, right=38)
    assert holds(second, top=72, bottom=78, left=92, right=98)


def holds(box: Box, *, top: int, bottom: int, left: int, right: int) -> bool:
    rows, columns = range(box.top, box.top + box.side), range(box.left, box.left + box.side)
    return top in rows and bottom in rows and left in columns and right in columns


def test_a_detail_is_enlarged_beneath_in_its_frame() -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 22:28, 12:18] = 200
    drawn = with_details(image, (Box(20, 10, 10), Box(0, 40, 10)))
    assert drawn.shape == (40 + 30, 60, 3)
    assert (drawn[55, 15] == 200).all()  # the middle of the first detail
    assert (drawn[55, 45] == 0).all()
    assert (drawn[40, 0] == drawn[20, 10]).all()  # one colour around the box and around the detail
    assert drawn[40, 0, 0] > 200
    assert (image[:, 20, 10] == 0).all()  # the image itself stays
